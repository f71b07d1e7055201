import FoundationEssentials
import Operation
import System

extension Chart {
    /// Refuses a place where `write` cannot write, before anything is measured.
    static func check(_ path: String) throws {
        let directory = URL(fileURLWithPath: path).deletingLastPathComponent().path
        guard FileManager.default.isWritableFile(atPath: directory) else {
            throw ArgumentProblem("\(path): there is no directory \(directory) to write to")
        }
    }

    /// Writes the chart beside `path`, whose ending does not matter, as SVG and PNG.
    /// - Returns: the files written.
    /// - Throws: a problem when a file cannot be written, or the converter is missing; the SVG is there by then.
    func write(to path: String) throws -> [String] {
        let base = URL(fileURLWithPath: path)
        let stem = ["svg", "png"].contains(base.pathExtension) ? base.deletingPathExtension() : base
        let svgFile = stem.appendingPathExtension("svg")
        let png = stem.appendingPathExtension("png")
        try saying("write \(svgFile.path)") { try Data(svg.utf8).write(to: svgFile, options: .atomic) }
        let converter = ["/usr/bin/rsvg-convert", "/usr/local/bin/rsvg-convert"]
            .first(where: FileManager.default.isExecutableFile(atPath:))
        guard let converter else {
            throw DemoProblem(
                "\(svgFile.path) is written, the PNG is not: rsvg-convert is missing; apt-get install librsvg2-bin")
        }
        try flexicast.run([converter, "--zoom", "2", "--output", png.path, svgFile.path])
        return [svgFile.path, png.path]
    }
}
