import Objects
import Reactor

/// The time of day.
package func wallClock() -> WallTime { WallTime(nanoseconds: Reactor.timeOfDay()) }
