// Tests of Endpoint.
