import Foundation

/// An authority, and a server's certificate that it signed for source.test, 192.0.2.1 and 2001:db8::1. Valid from 2020
/// to 2120, and good for nothing outside these tests.
enum TestCertificates {
    static let authority = """
        -----BEGIN CERTIFICATE-----
        MIIBUzCB+6ADAgECAgEBMAoGCCqGSM49BAMCMBkxFzAVBgNVBAMMDlRlc3QgYXV0
        aG9yaXR5MCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAZMRcwFQYD
        VQQDDA5UZXN0IGF1dGhvcml0eTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPp9
        NufHMdr1zGk2wdu61tF8mvcfIiIFomuisDmhSOqEz4HaTMUGvHzlbnJEtsTjw5RI
        i5CEUT0pwXg1/jQY8ZGjMjAwMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0OBBYEFAF0
        HHR2lIUinkXqg4FMhhF7ajq2MAoGCCqGSM49BAMCA0cAMEQCIFgU509JnC5QQai+
        n983H5YuG3Vh2N08Fj5XG8Z/yXC2AiB17jpXbgjl1QS6MwTt3w3iRXLBPAcNlNr4
        C4rr7Xk/fw==
        -----END CERTIFICATE-----
        """

    static let certificate = """
        -----BEGIN CERTIFICATE-----
        MIIBtDCCAVqgAwIBAgIBAjAKBggqhkjOPQQDAjAZMRcwFQYDVQQDDA5UZXN0IGF1
        dGhvcml0eTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFjEUMBIG
        A1UEAwwLc291cmNlLnRlc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATOASzd
        n9bcNAQEZjNsV3gyxW+kkjq+xdk7Jq/gvuoZqQq204Avb1532uA9w+A2JRxwCj0c
        7UwImpNQoF+QclKGo4GTMIGQMC4GA1UdEQQnMCWCC3NvdXJjZS50ZXN0hwTAAAIB
        hxAgAQ24AAAAAAAAAAAAAAABMBMGA1UdJQQMMAoGCCsGAQUFBwMBMAkGA1UdEwQC
        MAAwHQYDVR0OBBYEFFY0j9QJ8TgQ1Q7Q88h/8iMYokN7MB8GA1UdIwQYMBaAFAF0
        HHR2lIUinkXqg4FMhhF7ajq2MAoGCCqGSM49BAMCA0gAMEUCIQCYZqNREVkO+ik6
        hemtsFEYW5U+2V94pMKJX0r1YMSK0wIgfA8ojuWnSIu8y8/L1mn9AfjkWT2/Na8F
        nuOLdheFphc=
        -----END CERTIFICATE-----
        """

    static let key = """
        -----BEGIN EC PRIVATE KEY-----
        MHcCAQEEICV4L/WXqckcKzY8CMyCwX+haSaOVzZTayQQ7uR9zR87oAoGCCqGSM49
        AwEHoUQDQgAEzgEs3Z/W3DQEBGYzbFd4MsVvpJI6vsXZOyav4L7qGakKttOAL29e
        d9rgPcPgNiUccAo9HO1MCJqTUKBfkHJShg==
        -----END EC PRIVATE KEY-----
        """

    /// The key of no certificate here.
    static let otherKey = """
        -----BEGIN EC PRIVATE KEY-----
        MHcCAQEEIC+BQrnFxJHCd1IO/5lp6fIELF5r7N0Bz8EbsStTvJYRoAoGCCqGSM49
        AwEHoUQDQgAETGdT9mWr+6zfABgc7mTaaE2QPszvt49VhanIL+hOiK0B8tMUKlSx
        rXyrsd/xfoobyYVdZu9DCfFGCruyTIcY/Q==
        -----END EC PRIVATE KEY-----
        """

    /// Runs `body` with the path of a new directory, which is gone afterwards.
    static func withDirectory<Result>(_ body: (String) throws -> Result) throws -> Result {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("tls-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        return try body(directory.path)
    }

    /// Writes `text` to a file called `name`, and returns its path.
    static func write(_ text: String, _ name: String, in directory: String) throws -> String {
        let path = directory + "/" + name
        try text.write(toFile: path, atomically: true, encoding: .utf8)
        return path
    }
}
