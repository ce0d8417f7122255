"""The service: requests in, the one predict, answers out, each in the journal."""
