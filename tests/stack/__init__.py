"""Starts the stack for people (`make run`, `make demo`) and for tests, and says where it is.

It treats the services as a stranger would: their command lines, their ports, their logs. It must not import their code
or know what a request looks like; only `demo` speaks to the API.
"""
