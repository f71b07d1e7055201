// The room for Reactor.
