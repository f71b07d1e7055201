/// Why a source or receiver could not run, in words for the person who started it.
package struct EndpointError: Error, CustomStringConvertible {
    package var description: String
    package init(_ description: String) { self.description = description }
}
