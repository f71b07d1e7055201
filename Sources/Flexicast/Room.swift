// The room for Flexicast.
