#!/bin/bash
# Measures a relay in network namespaces: forwarding beside a floor of plain sendmmsg, loss at a steady rate, a flood.
#
#     run.sh [forward] [steady] [segments] [flood]       what to run; all by default
#
# forward   a floor of plain sendmmsg to the same sinks, then the relay with all that a source can send
# steady    RATE packets a second, of which none may be lost
# segments  the same as forward from a source that leaves segmentation to its kernel
# flood     FLOOD messages a second from forged addresses beside a tunnel that carries DATA packets a second
#
# Environment: FLEXICAST (the program), SECONDS_EACH (5), ENDPOINTS ("1 10"), IO (auto), RATE (50000), FLOOD (100000),
# DATA (5000), JSON (1: one object per run), PRIORITY (chrt -r 10: real-time, so that a busy machine disturbs less).
# Needs root. The network is closed.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
program=${FLEXICAST:-$here/../../.build/release/flexicast}
each=${SECONDS_EACH:-5}
priority=${PRIORITY-chrt -r 10}
json=${JSON:-0}
work=$(mktemp -d)
bench=$work/amtbench
${CC:-cc} -O2 -o "$bench" "$here/amtbench.c"
source=10.81.0.2 group=232.81.1.1 relay=10.82.0.1 sink=10.82.0.2
tag=$$
spaces="s$tag r$tag g$tag"

cleanup() {
    # Only what this script started.
    for child in $(jobs -p); do kill "$child" 2>/dev/null || true; done
    wait 2>/dev/null || true
    for space in $spaces; do ip netns del "$space" 2>/dev/null || true; done
    rm -rf "$work"
}
trap cleanup EXIT

for space in $spaces; do ip netns add "$space"; ip -n "$space" link set lo up; done
ip link add name source0 netns "r$tag" type veth peer name eth0 netns "s$tag"
ip link add name gateway0 netns "r$tag" type veth peer name eth0 netns "g$tag"
ip -n "s$tag" addr add $source/24 dev eth0
ip -n "r$tag" addr add 10.81.0.1/24 dev source0
ip -n "r$tag" addr add $relay/24 dev gateway0
ip -n "g$tag" addr add $sink/24 dev eth0
ip -n "s$tag" link set eth0 up
ip -n "r$tag" link set source0 up
ip -n "r$tag" link set gateway0 up
ip -n "g$tag" link set eth0 up
ip -n "s$tag" route add 224.0.0.0/4 dev eth0
ip -n "s$tag" route add default via 10.81.0.1
# Answers to forged addresses leave by the gateways' link, where nobody wants them.
ip -n "r$tag" route add default via $sink

at() { local space=$1; shift; $priority ip netns exec "$space" "$@"; }
ticks() { awk '{print $1 / 1000}' "/proc/$1/schedstat"; }   # microseconds on a CPU
memory() { awk '/VmRSS/ {print $2}' "/proc/$1/status"; }
field() { grep -o "\"$2\":-\?[0-9.]*" "$1" | tail -1 | cut -d: -f2; }

start_relay() {
    ip netns exec "r$tag" $priority "$program" relay --listen $relay --upstream source0 --json --io "${IO:-auto}" \
        --log-level error > "$work/relay.json" &
    relay_id=$!
    for _ in $(seq 100); do grep -q listening "$work/relay.json" && return; sleep 0.05; done
    echo "the relay does not start" >&2
    exit 1
}

stop_relay() {
    kill -INT $relay_id
    wait $relay_id || true
}

start_gateways() {
    ip netns exec "g$tag" $priority "$bench" gateways $relay $source $group "$1" 5000 > "$work/gateways.json" &
    gateways_id=$!
    for _ in $(seq 200); do grep -q joined "$work/gateways.json" && return; sleep 0.05; done
    echo "the gateways do not join" >&2
    exit 1
}

stop_gateways() {
    sleep 0.3
    kill -TERM $gateways_id
    wait $gateways_id || true
}

# $1: endpoints, $2: packets a second or 0, $3: send or segments
forward() {
    start_relay
    start_gateways "$1"
    local before after resident
    sleep 0.3
    before=$(ticks $relay_id)
    resident=$(memory $relay_id)
    at "s$tag" "$bench" "$3" $group 5555 "$2" "$each" > "$work/send.json"
    sleep 0.3
    after=$(ticks $relay_id)
    resident="$resident -> $(memory $relay_id)"
    stop_gateways
    stop_relay
    awk -v n="$1" -v kind="$3" -v rate="$2" -v offered="$(field "$work/send.json" packets)" \
        -v out="$(field "$work/relay.json" packets_out)" -v in_="$(field "$work/relay.json" packets_in)" \
        -v got="$(field "$work/gateways.json" packets)" -v drops="$(field "$work/relay.json" drops)" \
        -v cpu="$before $after" -v seconds="$(field "$work/send.json" seconds)" -v memory="$resident" -v sender="$(field "$work/send.json" cpu_us)" -v json="$json" 'BEGIN {
            split(cpu, c, " "); used = c[2] - c[1]
            split(memory, m, " -> ")
            if (json) {
                printf "{\"run\":\"relay\",\"kind\":\"%s\",\"endpoints\":%d,\"rate\":%d,\"offered\":%d,\"in\":%d,\"out\":%d,\"received\":%d,\"dropped\":%d,\"seconds\":%.3f,\"cpu_us_in\":%.3f,\"cpu_us_out\":%.3f,\"rss_before_kib\":%d,\"rss_after_kib\":%d}\n",
                    kind, n, rate, offered, in_, out, got, drops, seconds, used / in_, used / out, m[1], m[2]
                exit
            }
            printf "relay  %-8s n=%-3d rate %-6s: offered %.0f/s (%.2f us each), in %.0f/s, out %.0f/s, received %.0f/s, dropped %d, not received %d of %d, CPU %.2f us per packet in, %.3f us per copy, RSS %s KiB\n",
                kind, n, rate == 0 ? "max" : rate, offered / seconds, sender, in_ / seconds, out / seconds, got / seconds, drops, offered * n - got, offered * n,
                used / in_, used / out, memory }'
}

floor() {
    # The gateways' sockets of a relay that sends nothing: the same sinks.
    start_relay
    start_gateways "$1"
    at "r$tag" "$bench" floor $sink 5000 "$1" "$each" > "$work/floor.json"
    stop_gateways
    stop_relay
    awk -v n="$1" -v sent="$(field "$work/floor.json" per_second)" -v cpu="$(field "$work/floor.json" cpu_us)" \
        -v json="$json" 'BEGIN {
            if (json) {
                printf "{\"run\":\"floor\",\"endpoints\":%d,\"per_second\":%d,\"cpu_us\":%.3f}\n", n, sent, cpu
                exit
            }
            printf "floor  sendmmsg n=%-3d          : %.0f/s, CPU %.3f us per packet\n", n, sent, cpu }'
}

# $1: 0 Requests only, 1 all kinds
flood() {
    start_relay
    start_gateways 1
    local rate=${DATA:-5000}
    at "s$tag" "$bench" send $group 5555 "$rate" "$((each * 2))" > "$work/send.json" &
    local sender=$!
    sleep 1
    local before resident
    before=$(ticks $relay_id)
    resident=$(memory $relay_id)
    at "s$tag" "$bench" flood $relay "${FLOOD:-100000}" "$each" "$1" > "$work/flood.json"
    resident="$resident -> $(memory $relay_id)"
    local after
    after=$(ticks $relay_id)
    wait $sender
    stop_gateways
    stop_relay
    awk -v kind="$1" -v forged="$(field "$work/flood.json" per_second)" -v offered="$(field "$work/send.json" packets)" \
        -v got="$(field "$work/gateways.json" packets)" -v memory="$resident" -v cpu="$before $after" \
        -v seconds="$(field "$work/flood.json" seconds)" -v limited="$(field "$work/relay.json" rate_limited)" \
        -v drops="$(field "$work/relay.json" drops)" -v mac="$(field "$work/relay.json" invalid_mac)" \
        -v endpoints="$(field "$work/relay.json" endpoints)" -v gaps="$(field "$work/gateways.json" gaps)" -v json="$json" 'BEGIN {
            split(cpu, c, " ")
            split(memory, m, " -> ")
            if (json) {
                printf "{\"run\":\"flood\",\"mixed\":%d,\"per_second\":%d,\"offered\":%d,\"received\":%d,\"endpoints\":%d,\"rate_limited\":%d,\"dropped\":%d,\"invalid_mac\":%d,\"rss_before_kib\":%d,\"rss_after_kib\":%d}\n",
                    kind, forged, offered, got, endpoints, limited, drops, mac, m[1], m[2]
                exit
            }
            printf "flood  %-12s %.0f/s: tunnel %d of %d packets (%d missing in sequence), endpoints %d, rate limited %d, dropped %d, bad MACs %d, relay CPU %.0f %%, RSS %s KiB\n",
                kind ? "mixed" : "requests", forged, got, offered, gaps, endpoints, limited, drops, mac, (c[2] - c[1]) / seconds / 1e4, memory }'
}

for what in ${*:-forward steady segments flood}; do
    case $what in
    forward) for n in ${ENDPOINTS:-1 10}; do floor "$n"; forward "$n" 0 send; done ;;
    steady) for n in ${ENDPOINTS:-1 10}; do forward "$n" "${RATE:-50000}" send; done ;;
    segments) for n in ${ENDPOINTS:-1 10}; do forward "$n" 0 segments; done ;;
    flood) flood 0; flood 1 ;;
    *) echo "usage: run.sh [forward] [steady] [segments] [flood]" >&2; exit 64 ;;
    esac
done
