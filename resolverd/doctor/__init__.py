"""``resolverd doctor``: facts about this host, gathered apart, and checks that judge them, each a pure function."""
