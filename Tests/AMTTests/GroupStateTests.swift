import Testing
import Wire

@testable import AMT

/// The tables of RFC 9776 section 6.4, row by row. Sources are letters: A and B are what the state has, C is new.
@Suite struct GroupStateTests {
    static let times = MembershipTimes(membership: .seconds(260), leaveLatency: .zero)
    static let slow = MembershipTimes(membership: .seconds(260), leaveLatency: .seconds(2))
    let start = seconds(1000)

    static func source(_ letter: Character) -> IPAddress { .v4(0x0a00_0000 + UInt32(letter.asciiValue ?? 0)) }
    static func sources(_ letters: String) -> [IPAddress] { letters.map(source) }

    static func text(_ state: GroupState) -> String {
        func letters(_ sources: [IPAddress]) -> String {
            String(
                sources.map { source in
                    guard case .v4(let bits) = source else { return "?" }
                    return Character(UnicodeScalar(UInt8(bits & 0xff)))
                }.sorted())
        }
        let requested = letters(state.requested.map(\.source))
        return state.isExclude ? "EX(\(requested),\(letters(state.excluded)))" : "IN(\(requested))"
    }

    /// A state made of records: `AB` in INCLUDE, or X = A and Y = B in EXCLUDE.
    func made(_ isExclude: Bool, _ times: MembershipTimes, at now: Instant) -> GroupState {
        var state = GroupState()
        if isExclude {
            _ = state.apply(.isInclude, Self.sources("A"), times: times, limit: 64, at: now)
            _ = state.apply(.isExclude, Self.sources("AB"), times: times, limit: 64, at: now)
        } else {
            _ = state.apply(.allow, Self.sources("AB"), times: times, limit: 64, at: now)
        }
        return state
    }

    @Test(arguments: [
        (GroupRecord.Kind.isInclude, "BC", "IN(ABC)"), (.isInclude, "", "IN(AB)"), (.allow, "C", "IN(ABC)"),
        (.block, "BC", "IN(A)"), (.block, "AB", "IN()"), (.toInclude, "BC", "IN(BC)"), (.toInclude, "", "IN()"),
        (.isExclude, "BC", "EX(B,C)"), (.isExclude, "", "EX(,)"), (.toExclude, "BC", "EX(,BC)"),
        (.toExclude, "", "EX(,)"),
    ])
    func fromInclude(kind: GroupRecord.Kind, sources: String, expected: String) {
        var state = made(false, Self.times, at: start)
        #expect(Self.text(state) == "IN(AB)")
        let fits = state.apply(kind, Self.sources(sources), times: Self.times, limit: 64, at: start)
        #expect(fits)
        #expect(Self.text(state) == expected)
    }

    @Test(arguments: [
        (GroupRecord.Kind.isInclude, "BC", "EX(ABC,)"), (.allow, "B", "EX(AB,)"), (.allow, "", "EX(A,B)"),
        (.block, "C", "EX(A,BC)"), (.block, "B", "EX(A,B)"), (.block, "A", "EX(,AB)"),
        (.isExclude, "ABC", "EX(AC,B)"), (.isExclude, "", "EX(,)"), (.toExclude, "BC", "EX(,BC)"),
        (.toInclude, "C", "IN(C)"), (.toInclude, "", "IN()"), (.toInclude, "AB", "IN(AB)"),
    ])
    func fromExclude(kind: GroupRecord.Kind, sources: String, expected: String) {
        var state = made(true, Self.times, at: start)
        #expect(Self.text(state) == "EX(A,B)")
        let fits = state.apply(kind, Self.sources(sources), times: Self.times, limit: 64, at: start)
        #expect(fits)
        #expect(Self.text(state) == expected)
    }

    /// A leave that is held back can be taken back by whoever still listens.
    @Test func slowLeave() {
        var state = made(false, Self.slow, at: start)
        _ = state.apply(.block, Self.sources("AB"), times: Self.slow, limit: 64, at: start)
        #expect(Self.text(state) == "IN(AB)" && state.nextDeadline == start + .seconds(2))
        _ = state.apply(.isInclude, Self.sources("A"), times: Self.slow, limit: 64, at: start + .seconds(1))
        state.expire(at: start + .seconds(2))
        #expect(Self.text(state) == "IN(A)")
        state.expire(at: start + .seconds(261))
        #expect(state.isGone)
    }

    @Test func excludeEnds() {
        var state = made(true, Self.times, at: start)
        #expect(state.wants(Self.source("Z")) && state.wants(Self.source("A")) && !state.wants(Self.source("B")))
        _ = state.apply(.allow, Self.sources("C"), times: Self.times, limit: 64, at: start + .seconds(200))
        // A's timer ends with the group's: what is left is C, asked for later by name.
        state.expire(at: start + .seconds(260))
        #expect(Self.text(state) == "IN(C)")
        #expect(!state.wants(Self.source("Z")) && state.wants(Self.source("C")))
        state.expire(at: start + .seconds(460))
        #expect(state.isGone && state.nextDeadline == .distantFuture)
    }

    @Test(arguments: GroupRecord.Kind.allCases)
    func sourcesAreBounded(kind: GroupRecord.Kind) {
        let many = (0..<100).map { IPAddress.v4($0) }
        for isExclude in [false, true] {
            var state = made(isExclude, Self.slow, at: start)
            let fits = state.apply(kind, many, times: Self.slow, limit: 8, at: start)
            #expect(state.requested.count + state.excluded.count <= 8)
            #expect(!fits || (kind == .block && !isExclude))
        }
    }
}
