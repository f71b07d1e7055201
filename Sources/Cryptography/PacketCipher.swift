import CShims
import QUIC

/// The AEAD key and IV of one direction and one key generation. It keeps an OpenSSL context, so it belongs to one
/// thread at a time.
@safe final class PacketCipher {
    private let context: OpaquePointer

    init(_ suite: CipherSuite, key: [UInt8], iv: [UInt8], sealing: Bool) {
        precondition(key.count == suite.keyLength && iv.count == Int(FC_NONCE_LENGTH))
        guard let context = unsafe fc_aead_new(suite.rawValue, sealing ? 1 : 0, key, iv) else {
            preconditionFailure("OpenSSL does not offer \(suite)")
        }
        unsafe self.context = context
    }

    /// The keys that `secret` stands for (RFC 9001 section 5.1).
    convenience init(_ suite: CipherSuite, secret: [UInt8], sealing: Bool) {
        precondition(secret.count == suite.secretLength)
        self.init(
            suite, key: HKDF.expandLabel(suite.hash, secret: secret, "quic key", length: suite.keyLength),
            iv: HKDF.expandLabel(suite.hash, secret: secret, "quic iv", length: Int(FC_NONCE_LENGTH)),
            sealing: sealing)
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

    /// Opens one packet in place; false, and the buffer as it was, when it is not authentic.
    func open(_ buffer: inout MutableSpan<UInt8>, _ packet: fc_packet) -> Bool {
        unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            unsafe withUnsafePointer(to: packet) { packet in
                unsafe fc_open(context, buffer.baseAddress, packet) == 0
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

    /// What the mask hid, and what it takes to put it back.
    struct Unmasked {
        var first: UInt8
        var truncatedNumber: UInt64
        var numberLength: Int
        fileprivate var mask: InlineArray<5, UInt8>
    }

    /// Removes the mask in place. The packet has at least 20 octets from its packet number on.
    func remove(_ buffer: inout MutableSpan<UInt8>, start: Int, packetNumberOffset: Int) -> Unmasked {
        precondition(start >= 0 && start < packetNumberOffset && packetNumberOffset + 20 <= buffer.count)
        var mask = InlineArray<5, UInt8>(repeating: 0)
        let result = unsafe buffer.withUnsafeMutableBufferPointer { buffer in
            var span = mask.mutableSpan
            return unsafe span.withUnsafeMutableBufferPointer { mask in
                unsafe fc_mask_make(context, buffer.baseAddress! + packetNumberOffset + 4, mask.baseAddress)
            }
        }
        precondition(result == 0, "OpenSSL refused a header protection mask")
        let first = buffer[start] ^ mask[0] & (buffer[start] & 0x80 != 0 ? 0x0f : 0x1f)
        let length = Int(first & 3) + 1
        buffer[start] = first
        var number: UInt64 = 0
        for index in 0..<length {
            buffer[packetNumberOffset + index] ^= mask[1 + index]
            number = number << 8 | UInt64(buffer[packetNumberOffset + index])
        }
        return Unmasked(first: first, truncatedNumber: number, numberLength: length, mask: mask)
    }

    /// Puts the mask back that `remove` took off.
    func restore(_ buffer: inout MutableSpan<UInt8>, start: Int, packetNumberOffset: Int, _ header: Unmasked) {
        buffer[start] ^= header.mask[0] & (buffer[start] & 0x80 != 0 ? 0x0f : 0x1f)
        for index in 0..<header.numberLength {
            buffer[packetNumberOffset + index] ^= header.mask[1 + index]
        }
    }
}
