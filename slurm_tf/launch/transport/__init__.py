"""Between coordinator and agents: messages, authenticated connections, ports, signals as something to read."""
