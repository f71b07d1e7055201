// Tests of Flexicast.
