"""How long an audit takes, how many bytes and how much memory: `secure-fair bench audit`."""
