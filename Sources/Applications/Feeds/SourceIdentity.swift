import Cryptography
import FoundationEssentials
import Logging
import Operation
import Reactor
import System
import Transport
import Wire

// What a source is known by over restarts: its certificate, and the secret that tickets and stateless resets come from.

/// The secret of an earlier run, else a new one for this run and those to come. With it a receiver that still talks to the
/// run before is told at once that it is over (RFC 9000 section 10.3.2), connects again, resumes its session, and need not prove
/// its address.
func storedSecret(in directory: DurableDirectory) throws -> [UInt8] {
    if let found = try directory.read("reset-key", limit: 4096), found.count == 32 { return found }
    var random = randomSeed()
    let secret = random.octets(32)
    // Who knows it can end any connection.
    try directory.write(secret, as: "reset-key", isPrivate: true)
    return secret
}

/// The certificate that an earlier run made, else a new one, which receivers go on trusting over restarts.
func storedCertificate(in directory: DurableDirectory, names: [String]) throws -> CertificateFiles {
    let (certificate, key) = ("certificate.pem", "certificate-key.pem")
    if try directory.status(of: certificate) == nil || directory.status(of: key) == nil {
        let made = try CertificatePEM(selfSignedFor: names)
        // The certificate last: where it is there, the key is.
        try directory.write(Array(made.key.utf8), as: key, isPrivate: true)
        try directory.write(Array(made.certificate.utf8), as: certificate, isPrivate: true)
    }
    return CertificateFiles(certificate: "\(directory.path)/\(certificate)", key: "\(directory.path)/\(key)")
}

/// Tells of a certificate that is not valid, or not for long, and takes a new one when the user says that there is one.
final class CertificateWatch {
    private let broadcaster: Broadcaster
    private let output: String?
    private let log: Logger
    private var timer: TimerHandle?

    /// - Parameter output: where the certificate in use is written for receivers.
    init(_ broadcaster: Broadcaster, output: String?, log: Logger) {
        self.broadcaster = broadcaster
        self.output = output
        self.log = log
    }

    /// - Throws: when the certificate cannot be written.
    func start(on reactor: Reactor) throws {
        try write()
        tell()
        timer = reactor.timer(at: reactor.now + Self.interval) { [unowned self, unowned reactor] in
            tell()
            timer?.schedule(at: reactor.now + Self.interval)
        }
    }

    /// Takes the certificate that is in its files now, or in these. Where they cannot be used the one before stays, with an error.
    @discardableResult
    func reload(_ files: CertificateFiles? = nil) -> Bool {
        do {
            if let files { try broadcaster.useCertificate(files) } else { try broadcaster.reloadCertificate() }
            try write()
            log.notice(
                "the certificate was read again", metadata: ["fingerprint": "\(broadcaster.certificate.fingerprint)"])
            tell()
            return true
        } catch {
            log.error("the certificate stays as it was", metadata: ["reason": "\(error)"])
            return false
        }
    }

    private func write() throws {
        guard let output else { return }
        try saying("write the certificate to \(output)") {
            try Data(broadcaster.certificatePEM.utf8).write(to: URL(filePath: output), options: .atomic)
        }
    }

    private func tell() {
        let seconds = wallClock().nanoseconds / 1_000_000_000
        guard let problem = Self.problem(broadcaster.certificate, at: Int64(seconds)) else { return }
        log.error("\(problem)", metadata: ["certificate": "\(broadcaster.certificate.fingerprint)"])
    }

    private static let interval = Duration.seconds(12 * 3600)
    /// So long before its end a certificate's users are warned.
    static let warning: Int64 = 14 * 86_400

    /// What receivers that look at its dates will say of a certificate, or will soon; nil when there is nothing to say.
    static func problem(_ facts: CertificateFacts, at seconds: Int64) -> String? {
        func date(_ seconds: Int64) -> String {
            Date(timeIntervalSince1970: Double(seconds)).formatted(.iso8601)
        }
        if seconds < facts.validFrom { return "the certificate is not valid before \(date(facts.validFrom))" }
        if seconds >= facts.validUntil {
            return "the certificate has expired at \(date(facts.validUntil)): receivers refuse it"
        }
        if seconds + warning >= facts.validUntil {
            return "the certificate expires at \(date(facts.validUntil)): put a new one into its files and send SIGHUP"
        }
        return nil
    }
}
