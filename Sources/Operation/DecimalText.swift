/// `value` with `digits` digits after the point.
package func fixed(_ value: Double, _ digits: Int) -> String {
    guard abs(value) < 1e15 else { return "-" }
    var factor = 1.0
    for _ in 0..<digits { factor *= 10 }
    let scaled = Int((abs(value) * factor).rounded())
    let whole = scaled / Int(factor)
    guard digits > 0 else { return value < 0 ? "-\(whole)" : "\(whole)" }
    let fraction = String(scaled % Int(factor))
    return (value < 0 ? "-" : "") + "\(whole)." + String(repeating: "0", count: digits - fraction.count) + fraction
}
