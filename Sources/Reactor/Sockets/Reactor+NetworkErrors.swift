import CShims
import Glibc
import Wire

extension Reactor {
    /// Runs `handler` with each ICMP error (destination unreachable, packet too big) that comes to this host: with its IP
    /// header for IPv4, without for IPv6. Needs CAP_NET_RAW.
    /// - Throws: `ReactorError` without the privilege.
    @discardableResult
    public func watchNetworkErrors(isIPv4: Bool, _ handler: @escaping ([UInt8]) -> Void) throws(ReactorError)
        -> FileWatch
    {
        let descriptor = fcio_icmp_socket(isIPv4 ? 4 : 6)
        guard descriptor >= 0 else {
            throw ReactorError(
                "raw socket", "ICMP", code: descriptor, advice: "run as root or with CAP_NET_RAW")
        }
        do throws(ReactorError) { return try watchPackets(descriptor, closing: true, handler) } catch {
            Glibc.close(descriptor)
            throw error
        }
    }

    /// Sends an ICMP message, without IP header, by the socket of `watchNetworkErrors`; false when the kernel refuses.
    @discardableResult
    public func send(_ message: Span<UInt8>, to host: IPAddress, on errors: FileWatch) -> Bool {
        let result = unsafe message.withUnsafeBufferPointer { octets in
            unsafe octets.baseAddress.map {
                unsafe fcio_icmp_send(errors.descriptor, $0, octets.count, fcio_address(host))
            } ?? 0
        }
        return result >= 0
    }

    /// Runs `handler` with each packet that a raw socket brings.
    @discardableResult
    func watchPackets(
        _ descriptor: Int32, closing: Bool, _ handler: @escaping ([UInt8]) -> Void
    ) throws(ReactorError) -> FileWatch {
        try watch(descriptor, closing: closing) { watch in
            var bytes: [UInt8] = []
            // A bounded number, so that a flood of them does not keep a turn from ending.
            for _ in 0..<64 {
                bytes.removeAll(keepingCapacity: true)
                guard case .octets? = try? watch.read(appendingTo: &bytes, limit: 2048) else { return }
                handler(bytes)
            }
        }
    }
}
