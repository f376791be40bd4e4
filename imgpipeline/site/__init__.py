"""The folder of a site that runs in containers: what `imgpipeline site init` writes, and `site check` checks."""
