// swift-tools-version: 6.2
import PackageDescription

// Programs that are not Flexicast's, on its library. `make examples` builds them and has them talk to each other.
let package = Package(
    name: "flexicast-examples",
    dependencies: [
        .package(name: "flexicast", path: "../.."),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: ["send-file", "receive-file", "send-datagrams", "receive-datagrams"].map { name in
        .executableTarget(
            name: name,
            dependencies: [
                .product(name: "FlexicastTransport", package: "flexicast"),
                .product(name: "Logging", package: "swift-log"),
            ])
    }
)
