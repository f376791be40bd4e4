// Prints a compose project as JSON, as `docker compose config` reads it: with the same parser, but without Docker.
//
// Usage: compose_check COMPOSE_FILE ENV_FILE [PROFILE...]
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: compose_check COMPOSE_FILE ENV_FILE [PROFILE...]")
		os.Exit(2)
	}
	if err := show(os.Args[1], os.Args[2], os.Args[3:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func show(composeFile, envFile string, profiles []string) error {
	options, err := cli.NewProjectOptions(
		[]string{composeFile},
		cli.WithEnvFiles(envFile),
		cli.WithDotEnv,
		cli.WithProfiles(profiles),
	)
	if err != nil {
		return err
	}
	project, err := options.LoadProject(context.Background())
	if err != nil {
		return err
	}
	text, err := project.MarshalJSON()
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}
