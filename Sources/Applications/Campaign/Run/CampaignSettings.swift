/// What a campaign needs to know besides its plan.
package struct CampaignSettings: Sendable {
    /// This program, which is copied to hosts that lack it.
    package var program: String
    /// What `--version` says here.
    package var version: String
    /// The folder that it writes; made, and must not be there.
    package var folder: String

    package init(program: String, version: String, folder: String) {
        self.program = program
        self.version = version
        self.folder = folder
    }
}
