import CShims

/// The library that does the cryptography, with its version as it says it itself.
public var cryptographyLibrary: String { unsafe String(cString: fc_library_version()) }
