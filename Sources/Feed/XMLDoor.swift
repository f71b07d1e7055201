import CShims

/// libxml2's push parser for one document, through the door in CShims.
///
/// This is the one file of this room with unsafe code: whatever comes from here is a copy, an array of octets that
/// `XMLEvents` reads with its bounds checked.
@safe struct XMLDoor: ~Copyable {
    /// Where a document stopped being XML.
    struct Fault {
        /// libxml2's `xmlParserErrors`, or one of `documentType` and `noMemory`.
        var code: Int
        /// From 1.
        var line: Int
        /// From 1.
        var column: Int

        static let documentType = FC_XML_DOCUMENT_TYPE
        static let noMemory = FC_XML_NO_MEMORY
    }

    static let noMemory = FeedError.malformed(line: 1, column: 1, reason: "there is no memory to read it")

    private let parser: OpaquePointer

    /// - Throws: when there is no memory for a parser.
    init() throws(FeedError) {
        guard let parser = unsafe fc_xml_open() else { throw Self.noMemory }
        unsafe self.parser = unsafe parser
    }

    deinit { unsafe fc_xml_close(parser) }

    /// Parses more of the document.
    ///
    /// - Parameters:
    ///   - text: UTF-8; a character may be split between two calls.
    ///   - isLast: nothing follows.
    /// - Returns: what the parser saw, and the fault that ended the document, after which nothing may be pushed.
    mutating func push(_ text: ArraySlice<UInt8>, isLast: Bool) -> (events: [UInt8], fault: Fault?) {
        var fault = fc_xml_fault()
        let count = unsafe text.withUnsafeBufferPointer { text in
            unsafe fc_xml_push(parser, text.baseAddress, text.count, isLast, &fault)
        }
        let events = unsafe [UInt8](unsafeUninitializedCapacity: count) { room, initialized in
            if let start = room.baseAddress { unsafe fc_xml_take(parser, start) }
            initialized = count
        }
        guard fault.code != 0 else { return (events, nil) }
        return (events, Fault(code: Int(fault.code), line: Int(fault.line), column: Int(fault.column)))
    }
}

extension TextEncoding {
    /// The UTF-8 of text in a legacy encoding; an octet without a meaning there becomes U+FFFD.
    ///
    /// - Parameter encoding: a name of iconv's. It must be one of ours, not what a document says: iconv loads code for
    ///   each name.
    /// - Returns: nil when this machine's iconv lacks the encoding.
    static func convert(_ bytes: [UInt8], from encoding: String) -> [UInt8]? {
        // Once to learn the size, once to write: no guess at how much a character takes.
        let count = unsafe bytes.withUnsafeBufferPointer { bytes in
            unsafe fc_text_to_utf8(encoding, bytes.baseAddress, bytes.count, nil, 0)
        }
        guard count >= 0 else { return nil }
        return unsafe [UInt8](unsafeUninitializedCapacity: Int(count)) { room, initialized in
            let written = unsafe bytes.withUnsafeBufferPointer { bytes in
                unsafe fc_text_to_utf8(encoding, bytes.baseAddress, bytes.count, room.baseAddress, Int(count))
            }
            precondition(written == count, "iconv says two things of one text")
            initialized = Int(count)
        }
    }
}

/// References to characters as HTML has them.
enum HTMLEntity {
    /// - Parameter name: what stands between "&" and ";": "nbsp", "#160" or "#xA0".
    /// - Returns: nil when that is nothing known. The value need not be a character of XML.
    static func value(_ name: String) -> UInt32? {
        if name.hasPrefix("#") {
            let isHex = name.hasPrefix("#x") || name.hasPrefix("#X")
            let digits = name.dropFirst(isHex ? 2 : 1)
            guard digits.utf8.allSatisfy({ $0 != 0x2B && $0 != 0x2D }) else { return nil }
            return UInt32(digits, radix: isHex ? 16 : 10)
        }
        guard !name.utf8.isEmpty, name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else { return nil }
        if name == "apos" { return 0x27 }
        let value = unsafe fc_html_entity(name)
        return value == 0 ? nil : value
    }
}
