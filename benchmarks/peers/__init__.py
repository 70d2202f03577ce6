"""Other engines at the same work: `setup` installs them, `client` runs them, each in its own process."""
