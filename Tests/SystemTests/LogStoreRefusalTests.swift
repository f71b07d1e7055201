import Foundation
import Objects
import Testing
import Wire

@testable import LogStoreWriter
@testable import System

@_silgen_name("setfsuid") private func setFileSystemUser(_ user: UInt32) -> Int32

/// What a durable store says when it cannot do its work: which file, what was wrong, what would do.
@Suite struct LogStoreRefusalTests {
    /// A log with a few parts, closed.
    static func scratchWithLog() throws -> ScratchStore {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        _ = try store.reserve(100)
        for sequence in UInt64(0)..<90 { try store.append(samplePart(sequence)) }
        try store.close()
        return scratch
    }

    @Test func twoSourcesOnOneDirectory() throws {
        let scratch = try ScratchStore()
        let first = try scratch.open()
        #expect(scratch.refusal().hasPrefix("\(scratch.log) is in use by another process; end that one, or give"))
        try first.close()
        #expect(scratch.refusal() == "it was opened")
    }

    @Test func noDirectory() throws {
        let scratch = try ScratchStore()
        try Data().write(to: URL(filePath: scratch.log))
        #expect(scratch.refusal().hasPrefix("the directory \(scratch.log) cannot be made: "))
        var random = SystemRandomNumberGenerator()
        #expect(throws: LogStoreError.self) { try SQLiteLogStore(directory: "/proc/nowhere", random: &random) }
    }

    /// Root may write everywhere, so that a thread gives that up.
    @Test func noPermission() throws {
        let scratch = try ScratchStore()
        try FileManager.default.createDirectory(atPath: scratch.log, withIntermediateDirectories: true)
        try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: scratch.log)
        defer { try? FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: scratch.log) }
        let said = refusalAsNobody(scratch)
        #expect(
            said == "\(scratch.database) cannot be opened (unable to open database file); "
                + "give this user the right to write to it and to its directory")
    }

    @Test func aDatabaseThatMayOnlyBeRead() throws {
        let scratch = try Self.scratchWithLog()
        try FileManager.default.setAttributes([.posixPermissions: 0o444], ofItemAtPath: scratch.database)
        try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: scratch.log)
        defer { try? FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: scratch.log) }
        let said = refusalAsNobody(scratch)
        #expect(said.contains("give this user the right to write to it and to its directory"), "\(said)")
    }

    private func refusalAsNobody(_ scratch: ScratchStore) -> String {
        let done = DispatchSemaphore(value: 0)
        let said = Monitor("")
        let thread = Thread {
            let user = UInt32(bitPattern: setFileSystemUser(65534))
            let refusal = scratch.refusal()
            _ = setFileSystemUser(user)
            said.change { $0 = refusal }
            done.signal()
        }
        thread.start()
        done.wait()
        return said.change { $0 }
    }

    @Test func noDatabase() throws {
        let scratch = try ScratchStore()
        try FileManager.default.createDirectory(atPath: scratch.log, withIntermediateDirectories: true)
        try Data(repeating: 0x5a, count: 9000).write(to: URL(filePath: scratch.database))
        #expect(scratch.refusal().hasPrefix("\(scratch.database) is no database (file is not a database)"))
    }

    @Test func anotherProgramsDatabase() throws {
        let scratch = try ScratchStore()
        try FileManager.default.createDirectory(atPath: scratch.log, withIntermediateDirectories: true)
        try scratch.sqlite("CREATE TABLE mine (a)")
        #expect(scratch.refusal().hasPrefix("\(scratch.database) is a database of another program"))
    }

    @Test func aNewerVersion() throws {
        let scratch = try Self.scratchWithLog()
        try scratch.sqlite("PRAGMA user_version = 7")
        #expect(
            scratch.refusal().hasPrefix(
                "\(scratch.database) has version 7 of the log's tables, and this program knows up to 2"))
    }

    @Test func aTransactionIsWholeOrNothing() throws {
        let scratch = try ScratchStore()
        let database = try Database(scratch.path + "/a")
        try database.execute("CREATE TABLE t (a)")
        #expect(throws: LogStoreError("no")) {
            try database.transaction { () throws(LogStoreError) in
                try database.execute("INSERT INTO t VALUES (1)")
                throw LogStoreError("no")
            }
        }
        try database.transaction { () throws(LogStoreError) in try database.execute("INSERT INTO t VALUES (2)") }
        #expect(try database.integer("SELECT sum(a) FROM t") == 2)
    }

    @Test func lockedByAnotherProgram() throws {
        let scratch = try Self.scratchWithLog()
        let other = try Database(scratch.database)
        try other.execute("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE")
        #expect(scratch.refusal().contains("is locked by another program"))
        try other.execute("COMMIT")
    }

    /// Octets that changed in the file: either it is refused, or what is loaded is as it was written.
    @Test(arguments: seeds) func changedOctets(seed: UInt64) throws {
        let scratch = try Self.scratchWithLog()
        var random = SeededRandom(seed: seed)
        var octets = try Data(contentsOf: URL(filePath: scratch.database))
        for _ in 0..<4 { octets[100 + random.below(octets.count - 100)] ^= UInt8(1 + random.below(255)) }
        try octets.write(to: URL(filePath: scratch.database))
        do {
            var store = try scratch.open()
            let stored = try store.load()
            #expect(stored.parts.allSatisfy { $0 == samplePart($0.sequence) })
            #expect(zip(stored.parts, stored.parts.dropFirst()).allSatisfy { $0.sequence < $1.sequence })
            #expect(stored.parts.count <= 90)
        } catch let error as LogStoreError {
            #expect(error.reason.contains(scratch.database), "\(error)")
        }
    }

    @Test func aPartsOctets() throws {
        let scratch = try Self.scratchWithLog()
        try scratch.sqlite(
            "UPDATE part SET stream = x'00' WHERE sequence = 4; UPDATE part SET checksum = 5 WHERE sequence = 6")
        var store = try scratch.open()
        #expect(try store.load().parts.map(\.sequence) == (0..<90).filter { $0 != 4 && $0 != 6 })
        #expect(store.statistics.partsDamaged == 2)
    }

    @Test func aFileCutOff() throws {
        let scratch = try Self.scratchWithLog()
        let octets = try Data(contentsOf: URL(filePath: scratch.database))
        try octets.prefix(octets.count / 2).write(to: URL(filePath: scratch.database))
        var said = scratch.refusal()
        if said == "it was opened" {
            var store = try scratch.open()
            said = #expect(throws: LogStoreError.self) { try store.load() }?.reason ?? ""
        }
        #expect(said.hasPrefix("\(scratch.database) is damaged (database disk image is malformed); move it away"))
    }

    /// Numbers that went back would be given twice.
    @Test func reservationsThatAreLost() throws {
        let scratch = try Self.scratchWithLog()
        try scratch.sqlite("UPDATE log SET next = 50")
        #expect(scratch.refusal().contains("its parts and the numbers it reserved do not fit"))
        try scratch.sqlite("DELETE FROM log")
        #expect(scratch.refusal().contains("its parts and the numbers it reserved do not fit"))
    }

    @Test func reservationsChangedByOthers() throws {
        let scratch = try ScratchStore()
        var store = try scratch.open()
        _ = try store.reserve(10)
        try scratch.sqlite("UPDATE log SET next = 5")
        // What is in hand at most is given out yet.
        var next: UInt64 = 10
        #expect(throws: LogStoreError.self) {
            while next < 10 * ObjectLog.blockSize { next = try store.reserve(10) + 10 }
        }
    }

    /// At its limit of size the store says so and goes on; trimming makes room, and what waited is written then.
    @Test func atTheLimitOfItsSize() throws {
        let scratch = try ScratchStore()
        let limits = SQLiteLogLimits(databaseOctets: 1 << 20, queueOctets: 1 << 20)
        var store = try scratch.open(limits)
        try fill(&store)
        let refused = store.statistics.partsRefused
        #expect(refused > 0)
        #expect(store.statistics.lastFailure?.contains("raise the limit of its size") == true)
        _ = try store.reserve(1000)
        try store.trim(below: 90)
        try store.flush()
        #expect(store.statistics.waitingOctets == 0 && store.statistics.lastFailure == nil)
        let size = try FileManager.default.attributesOfItem(atPath: scratch.database)[.size] as? Int
        #expect(size.map { $0 <= limits.databaseOctets } == true)
        try store.close()
        store = try scratch.open(limits)
        #expect(try store.load().oldest == 90)
    }

    /// As above with a real file system of 3 MiB, which only root may make. Numbers are given out on it all the same.
    @Test func aFullDisk() throws {
        let scratch = try ScratchStore()
        try FileManager.default.createDirectory(atPath: scratch.log, withIntermediateDirectories: true)
        guard try run("mount", "-t", "tmpfs", "-o", "size=3m", "none", scratch.log) else { return }
        defer { _ = try? run("umount", "-l", scratch.log) }
        var store = try scratch.open(SQLiteLogLimits(queueOctets: 1 << 20))
        try fill(&store)
        #expect(store.statistics.lastFailure?.hasPrefix("there is no room for \(scratch.database)") == true)
        for _ in 0..<100 { _ = try store.reserve(1000) }
        #expect(store.trouble?.hasPrefix("there is no room for") == true)
        try store.trim(below: 60)
        // As somebody who frees some of the disk.
        #expect(try run("mount", "-o", "remount,size=8m", scratch.log))
        try store.flush()
        #expect(store.statistics.waitingOctets == 0 && store.trouble == nil)
        let next = try store.reserve(10)
        try store.close()
        store = try scratch.open()
        #expect(try store.load().next == next + 10)
        #expect(FileManager.default.fileExists(atPath: scratch.log + "/reserve"))
    }

    /// Appends until the store takes no more, which it must say within its limits.
    private func fill(_ store: inout SQLiteLogStore) throws {
        _ = try store.reserve(200)
        let body = [UInt8](repeating: 9, count: 20_000)
        for sequence in UInt64(0)..<200 {
            let header = PartHeader(
                sequence: sequence, length: UInt64(body.count), published: WallTime(nanoseconds: 0))
            do {
                try store.append(try Part(header, body: body))
            } catch {
                #expect((error as? LogStoreError)?.reason.contains("octets wait for the disk") == true)
            }
            if sequence % 10 == 9 { try? store.flush() }
        }
        #expect(throws: LogStoreError.self) { try store.flush() }
        #expect(store.statistics.failures > 0)
    }
}
