final class RingBackend {}
