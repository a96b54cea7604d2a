"""Answering: the wire, the records, whose name it is, and the server."""
