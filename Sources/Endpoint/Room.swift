// The room for Endpoint.
