// swift-tools-version: 6.2
import Foundation
import PackageDescription

// Warnings are errors in CI; at a desk they stay warnings so that work in progress builds.
let strict = ProcessInfo.processInfo.environment["CI"] != nil

let room: [SwiftSetting] =
    [
        .strictMemorySafety(),
        .enableExperimentalFeature("Lifetimes"),
        .enableUpcomingFeature("ExistentialAny"),
    ] + (strict ? [.treatAllWarnings(as: .error)] : [])

// Only `make docs` needs the plugin that makes documentation: no other build fetches or resolves it.
let documents = ProcessInfo.processInfo.environment["FLEXICAST_DOCS"] == "1"

// The commit that `flexicast --version` names, which the Makefile finds. SwiftPM's own `Context.gitInformation` is not asked:
// SwiftPM keeps what a manifest said as long as the manifest does not change, and would go on naming an old commit.
let given = ProcessInfo.processInfo.environment["FLEXICAST_COMMIT"] ?? ""
let isName = !given.isEmpty && given.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || "+-._".contains($0)) }
let commit = isName ? given : "unknown"

let log = Target.Dependency.product(name: "Logging", package: "swift-log")

let package = Package(
    name: "flexicast",
    products: [
        // What others import: `Broadcaster` and `Subscriber`, on a `Reactor`.
        .library(name: "FlexicastTransport", targets: ["Transport", "Reactor", "Objects", "Wire"]),
        .executable(name: "flexicast", targets: ["flexicast"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ] + (documents ? [.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0")] : []),
    targets: [
        .systemLibrary(
            name: "CLibCurl", path: "CShims/libcurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(
            name: "CLibXML2", path: "CShims/libxml2", pkgConfig: "libxml-2.0", providers: [.apt(["libxml2-dev"])]),
        .systemLibrary(
            name: "CLibMicroHTTPD", path: "CShims/libmicrohttpd", pkgConfig: "libmicrohttpd",
            providers: [.apt(["libmicrohttpd-dev"])]),
        .systemLibrary(
            name: "CLibYAML", path: "CShims/libyaml", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .target(
            name: "CShims", dependencies: ["CLibCurl", "CLibMicroHTTPD", "CLibXML2"], path: "CShims",
            exclude: ["libcurl", "libmicrohttpd", "libxml2", "libyaml", "commit", "yaml"],
            linkerSettings: [
                .linkedLibrary("ssl"), .linkedLibrary("crypto"), .linkedLibrary("uring"),
                .linkedLibrary("sqlite3"),
            ]),
        .target(name: "CCommit", path: "CShims/commit", cSettings: [.define("FLEXICAST_COMMIT", to: "\"\(commit)\"")]),
        .target(name: "CYAML", dependencies: ["CLibYAML"], path: "CShims/yaml"),
        .target(name: "Wire", swiftSettings: room),
        .target(name: "QUIC", dependencies: ["Wire"], swiftSettings: room),
        .target(name: "Flexicast", dependencies: ["Objects", "QUIC", "Wire"], swiftSettings: room),
        .target(name: "AMT", dependencies: ["Wire"], swiftSettings: room),
        .target(name: "Objects", dependencies: ["Wire"], swiftSettings: room),
        .target(name: "Feed", dependencies: ["CShims"], swiftSettings: room),
        .target(name: "Cryptography", dependencies: ["CShims", "QUIC", "Wire"], swiftSettings: room),
        .target(name: "Reactor", dependencies: ["CShims", "Wire"], swiftSettings: room),
        .target(name: "System", dependencies: ["CShims", "Objects", "Wire"], swiftSettings: room),
        // What a program tells those who run it: events, metrics, qlog.
        .target(
            name: "Operation", dependencies: ["Wire", "QUIC", "Cryptography", "Reactor", "System", log],
            swiftSettings: room),
        // Machines on the reactor: connections, flows in and out, tunnels.
        .target(
            name: "Transport",
            dependencies: [
                "Wire", "QUIC", "Objects", "Flexicast", "AMT", "Cryptography", "Reactor", "System", "Operation", log,
            ], swiftSettings: room),
        .target(
            name: "Feeds",
            dependencies: [
                "Wire", "QUIC", "Objects", "Flexicast", "Feed", "Cryptography", "Reactor", "System", "Operation",
                "Transport", log,
            ], path: "Sources/Applications/Feeds", resources: [.embedInCode("LivePage.html")], swiftSettings: room),
        .target(
            name: "Campaign", dependencies: ["CYAML", "Wire", "Feed", "Reactor", "System", "Operation"],
            path: "Sources/Applications/Campaign", swiftSettings: room),
        .target(
            name: "Relaying",
            dependencies: ["Wire", "AMT", "Cryptography", "Reactor", "System", "Operation", "Transport", log],
            swiftSettings: room),
        .target(
            name: "Measurement",
            dependencies: [
                "Wire", "QUIC", "Objects", "Flexicast", "AMT", "Cryptography", "Reactor", "Operation", "Transport",
                "Relaying", log,
            ], swiftSettings: room),
        .target(
            name: "Simulation", dependencies: ["Wire", "QUIC", "Objects", "Flexicast", "Cryptography"],
            swiftSettings: room),
        .executableTarget(
            name: "flexicast",
            dependencies: [
                "Wire", "AMT", "Feed", "Objects", "Reactor", "Cryptography", "System", "Operation", "Transport",
                "Feeds", "Campaign", "Relaying", "Measurement", "Simulation", "CCommit", log,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: room),
        .target(name: "TestShims", path: "Tests/TestShims"),
        .target(name: "TestSupport", path: "Tests/TestSupport", swiftSettings: room),
        .target(
            name: "ReactorTestSupport", dependencies: ["Reactor", "Wire"], path: "Tests/ReactorTestSupport",
            swiftSettings: room),
        .testTarget(name: "WireTests", dependencies: ["Wire"], swiftSettings: room),
        .testTarget(name: "QUICTests", dependencies: ["QUIC", "Wire"], swiftSettings: room),
        .testTarget(
            name: "FlexicastTests", dependencies: ["Simulation", "Flexicast", "Objects", "QUIC", "Wire"],
            swiftSettings: room),
        .testTarget(name: "AMTTests", dependencies: ["AMT", "Wire"], swiftSettings: room),
        .testTarget(name: "ObjectsTests", dependencies: ["Objects", "Wire"], swiftSettings: room),
        .executableTarget(name: "FeedDump", dependencies: ["Feed"], path: "Tests/FeedDump", swiftSettings: room),
        .testTarget(name: "FeedTests", dependencies: ["Feed"], swiftSettings: room),
        .testTarget(
            name: "CryptographyTests", dependencies: ["TestSupport", "Cryptography", "CShims", "QUIC", "Wire"],
            swiftSettings: room),
        .testTarget(
            name: "ReactorTests", dependencies: ["TestShims", "ReactorTestSupport", "Reactor", "Wire"],
            swiftSettings: room),
        .executableTarget(
            name: "LogStoreWriter", dependencies: ["System", "Objects", "Wire"], path: "Tests/LogStoreWriter",
            swiftSettings: room),
        .testTarget(
            name: "SystemTests", dependencies: ["LogStoreWriter", "System", "Objects", "Wire"], swiftSettings: room),
        .testTarget(
            name: "OperationTests", dependencies: ["Operation", "QUIC", "Reactor", "System", "Wire"],
            swiftSettings: room),
        .testTarget(
            name: "TransportTests",
            dependencies: [
                "Operation", "Transport", "System", "Wire", "QUIC", "Objects", "Flexicast", "Cryptography", "Reactor",
                log,
            ], swiftSettings: room),
        .testTarget(
            name: "FeedsTests",
            dependencies: [
                "TestSupport", "Feeds", "Operation", "Transport", "Wire", "Objects", "Feed", "Cryptography", "Reactor",
                "System",
                log,
            ], swiftSettings: room),
        .testTarget(
            name: "CampaignTests", dependencies: ["TestSupport", "Campaign", "Operation", "System", "Wire"],
            swiftSettings: room),
        .testTarget(
            name: "RelayingTests", dependencies: ["Relaying", "Transport", "Wire", "AMT", "Reactor", log],
            swiftSettings: room),
        .testTarget(
            name: "MeasurementTests",
            dependencies: [
                "ReactorTestSupport", "Measurement", "Transport", "Wire", "QUIC", "Flexicast", "Reactor", log,
            ], swiftSettings: room),
        .executableTarget(
            name: "Crowd",
            dependencies: ["TestShims", "Reactor", "Wire", "QUIC", "Objects", "Flexicast", "Cryptography"],
            path: "Tests/Crowd", swiftSettings: room),
        .testTarget(
            name: "SimulationTests",
            dependencies: [
                "Crowd", "TestSupport", "Simulation", "Wire", "QUIC", "Objects", "Flexicast", "Cryptography",
            ],
            swiftSettings: room),
        .testTarget(
            name: "InteropTests",
            dependencies: [
                "TestSupport", "Operation", "Transport", "Feeds", "Relaying", "Measurement", "Wire", "QUIC", "Objects",
                "Flexicast", "Cryptography", "Reactor", log,
            ],
            exclude: ["Peers"],
            swiftSettings: room),
        .testTarget(
            name: "CommandTests",
            dependencies: [
                "flexicast", "TestSupport", "Operation", "System", "Transport", "Feeds", "Campaign", "Relaying",
                "Measurement", "Simulation", "Wire", log,
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ], swiftSettings: room),
        .testTarget(
            name: "DeploymentTests",
            dependencies: [
                "flexicast", "TestShims", "TestSupport", "Operation", "Transport", "Feeds", "Campaign", "Relaying",
                "Measurement",
                "Wire", "Feed", "Objects", "Flexicast",
                "Cryptography",
                "Reactor",
                log,
            ], swiftSettings: room),
    ]
)
