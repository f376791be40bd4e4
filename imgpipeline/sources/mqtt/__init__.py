"""Images as MQTT messages: topics name sources, and a message is acknowledged when its frame is safe."""
