import CShims
import QUIC

/// The AEAD key and IV of one direction and one key generation. It keeps a library's context, so it belongs to one
/// thread at a time.
@safe final class PacketCipher {
    private let context: OpaquePointer

    init(
        _ suite: CipherSuite, key: [UInt8], iv: [UInt8], sealing: Bool, library: AEADLibrary = .preferred
    ) {
        precondition(key.count == suite.keyLength && iv.count == Int(FC_NONCE_LENGTH))
        guard
            let context = unsafe fc_aead_new(suite.rawValue, sealing ? 1 : 0, library == .ipsecMB ? 1 : 0, key, iv)
        else {
            preconditionFailure("OpenSSL does not offer \(suite)")
        }
        unsafe self.context = context
    }

    /// The keys that `secret` stands for (RFC 9001 section 5.1).
    convenience init(_ suite: CipherSuite, secret: [UInt8], sealing: Bool, library: AEADLibrary) {
        precondition(secret.count == suite.secretLength)
        self.init(
            suite, key: HKDF.expandLabel(suite.hash, secret: secret, "quic key", length: suite.keyLength),
            iv: HKDF.expandLabel(suite.hash, secret: secret, "quic iv", length: Int(FC_NONCE_LENGTH)),
            sealing: sealing, library: library)
    }

    deinit { unsafe fc_aead_free(context) }

    /// Seals a batch that the caller has checked against the buffer; masks headers when `mask` is given.
    func seal(_ buffer: inout MutableSpan<UInt8>, _ packets: Span<fc_packet>, mask: HeaderProtection?) {
        let result = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            unsafe packets.withUnsafeBufferPointer { packets in
                unsafe fc_seal(context, mask?.context, buffer.baseAddress, packets.baseAddress, packets.count)
            }
        }
        precondition(result == 0, "OpenSSL refused to seal a packet")
    }

    /// Seals a run that the caller has checked against the buffer.
    func seal(_ buffer: inout MutableSpan<UInt8>, _ run: fc_run, mask: HeaderProtection) {
        let result = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            unsafe withUnsafePointer(to: run) { run in
                unsafe fc_seal_run(context, mask.context, buffer.baseAddress, run)
            }
        }
        precondition(result == 0, "OpenSSL refused to seal a packet")
    }

    /// Opens one packet in place; false, and the buffer as it was, when it is not authentic.
    func open(_ buffer: inout MutableSpan<UInt8>, _ packet: fc_packet) -> Bool {
        unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            unsafe withUnsafePointer(to: packet) { packet in
                unsafe fc_open(context, buffer.baseAddress, packet) == 0
            }
        }
    }

    /// Opens those packets of a run, which the caller has checked against the buffer, whose bit is set in `wanted`: the bits
    /// of the authentic ones, whose numbers `numbers` gets. The others stay as they were.
    func open(
        _ buffer: inout MutableSpan<UInt8>, _ run: fc_run, wanted: UInt64, numbers: inout PacketNumbers,
        mask: HeaderProtection
    ) -> UInt64 {
        unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            var numbers = numbers.mutableSpan
            return unsafe numbers.withUnsafeMutableBufferPointer { numbers in
                unsafe withUnsafePointer(to: run) { run in
                    unsafe fc_open_run(
                        context, mask.context, buffer.baseAddress, run, wanted, numbers.baseAddress)
                }
            }
        }
    }
}

/// The header protection key of one direction (RFC 9001 section 5.4). Key updates leave it alone.
@safe final class HeaderProtection {
    fileprivate let context: OpaquePointer

    init(_ suite: CipherSuite, secret: [UInt8]) {
        let key = HKDF.expandLabel(suite.hash, secret: secret, "quic hp", length: suite.keyLength)
        guard let context = unsafe fc_mask_new(suite.rawValue, key) else {
            preconditionFailure("OpenSSL does not offer the header protection of \(suite)")
        }
        unsafe self.context = context
    }

    deinit { unsafe fc_mask_free(context) }

    /// Takes the mask off a header in place. The packet, of which `start`, `number_offset` and `end` are given, has at
    /// least 20 octets from its packet number on; it gets the place of its payload and its truncated number.
    func remove(_ buffer: inout MutableSpan<UInt8>, _ packet: inout fc_packet) {
        precondition(
            packet.start < packet.number_offset && packet.number_offset + 20 <= packet.end
                && packet.end <= buffer.count)
        let result = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            unsafe fc_unmask(context, buffer.baseAddress, &packet, 1)
        }
        precondition(result == 0, "OpenSSL refused a header protection mask")
    }

    /// Puts the mask back that `remove` took off.
    func restore(_ buffer: inout MutableSpan<UInt8>, _ packet: fc_packet) {
        precondition(packet.start < packet.payload_offset && packet.payload_offset <= buffer.count)
        unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            unsafe withUnsafePointer(to: packet) { packet in
                unsafe fc_mask_again(buffer.baseAddress, packet)
            }
        }
    }
}

/// The numbers of a run's packets: as many as one call opens.
public typealias PacketNumbers = InlineArray<64, UInt64>

extension fc_packet {
    var numberLength: Int { payload_offset - number_offset }
}
