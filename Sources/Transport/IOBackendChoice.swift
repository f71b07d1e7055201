import Reactor

/// Which input/output backend the reactor takes.
package enum IOBackendChoice: String, CaseIterable, Sendable {
    /// io_uring where the kernel allows it, else epoll.
    case auto
    case ioUring = "io_uring"
    case epoll
}

extension Reactor.IO {
    package init(_ choice: IOBackendChoice) {
        switch choice {
        case .auto: self = .auto
        case .ioUring: self = .ioUring
        case .epoll: self = .epoll
        }
    }
}
