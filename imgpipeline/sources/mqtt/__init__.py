"""Images that arrive as MQTT messages: each topic names a source, and a message is acknowledged when it is safe."""
