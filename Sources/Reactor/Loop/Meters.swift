import CShims

/// What measurements read of the calling thread and of the machine.
public enum Meters {
    /// Nanoseconds of CPU that the calling thread has used. Costs a system call.
    public static var threadTime: Int64 { fc_thread_time() }

    /// Where a thread's CPU time goes, in nanoseconds.
    public struct Split: Sendable {
        /// Calls into the kernel to wait, receive and send.
        public let inputOutput: Int64
        /// Packet protection (sealing, opening, header masks) and TLS.
        public let cryptography: Int64
        /// The measuring itself.
        public let clock: Int64
    }

    /// Measures where the calling thread's time goes from now on, or no more. Reading the clock costs a system call.
    public static func measureSplit(_ isOn: Bool) { fc_split(isOn ? 1 : 0) }

    /// Totals of the calling thread, of the time that was measured.
    public static var split: Split {
        let times = fc_split_times()
        return Split(inputOutput: times.io, cryptography: times.cryptography, clock: times.clock)
    }

    /// Heap allocations of the calling thread so far; nil unless the counter of `Perf/counter.c` is preloaded.
    public static var allocations: UInt64? { UInt64(exactly: fc_allocations()) }

    /// Octets that the calling thread has had the C library copy, in pieces as large as a payload; nil likewise.
    public static var copied: UInt64? { UInt64(exactly: fc_copied()) }

    /// Octets of heap that the process has in use.
    public static var heapOctets: Int { Int(fc_heap_octets()) }

    /// Keeps the calling thread on one processor; false when there is no such one for it.
    public static func pin(to processor: Int) -> Bool { fc_pin(Int32(clamping: processor)) == 0 }

    /// Lets the process open as many files as the system allows it.
    public static func raiseFileLimit() { fc_raise_file_limit() }

    /// Keeps memory that was freed, allocations of up to `octets` each, for what is allocated next: pages that are given back
    /// and taken anew cost more than what is written to them.
    public static func keepHeap(_ octets: Int) { fc_keep_heap(Int32(clamping: octets)) }

    /// The processor's name as the kernel gives it, empty when it does not.
    public static var processor: String {
        var name = [CChar](repeating: 0, count: 128)
        unsafe fc_processor_name(&name, Int32(name.count))
        return text(name)
    }

    /// The running kernel's release.
    public static var kernel: String {
        var name = [CChar](repeating: 0, count: 128)
        unsafe fc_kernel_release(&name, Int32(name.count))
        return text(name)
    }

    private static func text(_ characters: [CChar]) -> String {
        String(decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
