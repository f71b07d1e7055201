import Wire

extension UDPSocket {
    /// Queues a copy of `octets` as one datagram, or as several of `segment` octets, like `withSendBuffer` and `enqueue`
    /// together: for what goes to many destinations. False when the queue is full or the socket closed: the datagram is dropped.
    public func send(
        copyOf octets: Span<UInt8>, segment: Int? = nil, to: SocketAddress, from: IPAddress? = nil, ecn: ECN = .notECT
    ) -> Bool {
        let isQueued: Void? = unsafe octets.withUnsafeBufferPointer { source in
            withSendBuffer(source.count) { room in
                unsafe room.withUnsafeMutableBufferPointer { target in
                    guard let base = source.baseAddress else { return }
                    unsafe target.baseAddress?.update(from: base, count: source.count)
                }
            }
        }
        guard isQueued != nil else { return false }
        enqueue(octets.count, segment: segment, to: to, from: from, ecn: ecn)
        return true
    }
}
