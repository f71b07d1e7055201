--[[
 * Wireshark's view of Flexicast QUIC: the packets of a flow, and those of a connection with the frames of the extension and of
 * multipath, which Wireshark's own dissector of QUIC does not know. Handshakes are left to that one; 1-RTT packets are opened here,
 * with the secrets of the key log that it uses too (preference tls.keylog_file): TLS's own, and FLEXICAST_FLOW_SECRET lines. What
 * FC_KEY carries in the capture is used as well.
 *
 * Long because it is one file to install. docs/operating.md says how, and what it shows. TLS_AES_128_GCM_SHA256 alone is opened,
 * which our programs agree on by default.
]]

local bxor, band, bor, rshift, lshift, ror = bit.bxor, bit.band, bit.bor, bit.rshift, bit.lshift, bit.ror
local byte, char, sub, format = string.byte, string.char, string.sub, string.format

local function hex(octets) return (octets:gsub(".", function(c) return format("%02x", byte(c)) end)) end
local function unhex(digits) return (digits:gsub("%x%x", function(d) return char(tonumber(d, 16)) end)) end
local function word(s, i)
    local a, b, c, d = byte(s, i, i + 3)
    return bor(lshift(a, 24), lshift(b, 16), lshift(c, 8), d)
end
local function octets(w) return char(rshift(w, 24), band(rshift(w, 16), 255), band(rshift(w, 8), 255), band(w, 255)) end

-- SHA-256 (FIPS 180-4), HMAC (RFC 2104), HKDF-Expand-Label (RFC 8446 section 7.1) --------------------------------------------------

local K, H = {}, {}
do
    local candidate = 2
    while #K < 64 do
        local isPrime = true
        for divisor = 2, math.floor(math.sqrt(candidate)) do isPrime = isPrime and candidate % divisor ~= 0 end
        if isPrime then
            K[#K + 1] = bit.tobit(math.floor(candidate ^ (1 / 3) % 1 * 2 ^ 32))
            if #H < 8 then H[#H + 1] = bit.tobit(math.floor(candidate ^ 0.5 % 1 * 2 ^ 32)) end
        end
        candidate = candidate + 1
    end
end

local function sha256(text)
    local h = { H[1], H[2], H[3], H[4], H[5], H[6], H[7], H[8] }
    local padded = text .. "\128" .. ("\0"):rep((55 - #text) % 64) .. "\0\0\0\0" .. octets(#text * 8)
    local w = {}
    for at = 1, #padded, 64 do
        for i = 1, 16 do w[i] = word(padded, at + 4 * (i - 1)) end
        for i = 17, 64 do
            local x, y = w[i - 15], w[i - 2]
            local s = bxor(ror(x, 7), ror(x, 18), rshift(x, 3))
            local t = bxor(ror(y, 17), ror(y, 19), rshift(y, 10))
            w[i] = bit.tobit(w[i - 16] + s + w[i - 7] + t)
        end
        local a, b, c, d, e, f, g, z = h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]
        for i = 1, 64 do
            local choice = bxor(band(e, f), band(bit.bnot(e), g))
            local t1 = z + bxor(ror(e, 6), ror(e, 11), ror(e, 25)) + choice + K[i] + w[i]
            local t2 = bxor(ror(a, 2), ror(a, 13), ror(a, 22)) + bxor(band(a, b), band(a, c), band(b, c))
            z, g, f, e, d, c, b, a = g, f, e, bit.tobit(d + t1), c, b, a, bit.tobit(t1 + t2)
        end
        for i, v in ipairs({ a, b, c, d, e, f, g, z }) do h[i] = bit.tobit(h[i] + v) end
    end
    for i = 1, 8 do h[i] = octets(h[i]) end
    return table.concat(h)
end

local function hmac(key, text)
    local padded = key .. ("\0"):rep(64 - #key)
    local function mixed(value) return (padded:gsub(".", function(c) return char(bxor(byte(c), value)) end)) end
    return sha256(mixed(0x5c) .. sha256(mixed(0x36) .. text))
end

-- At most 32 octets.
local function expand(secret, label, length)
    local info = char(0, length, #label + 6) .. "tls13 " .. label .. "\0\1"
    return sub(hmac(secret, info), 1, length)
end

-- AES-128 and GCM (FIPS 197, SP 800-38D) ------------------------------------------------------------------------------------------

local S, T = {}, {}
do
    local function double(x) return band(bxor(lshift(x, 1), x > 127 and 0x1b or 0), 255) end
    local p, q = 1, 1
    repeat
        p = bxor(p, double(p))
        q = bxor(q, lshift(q, 1))
        q = bxor(q, lshift(q, 2))
        q = band(bxor(q, lshift(q, 4)), 255)
        if q > 127 then q = bxor(q, 9) end
        local x = bxor(q, lshift(q, 1), lshift(q, 2), lshift(q, 3), lshift(q, 4))
        S[p] = band(bxor(x, rshift(x, 8), 0x63), 255)
    until p == 1
    S[0] = 0x63
    for x = 0, 255 do
        local s, d = S[x], double(S[x])
        T[x] = bor(lshift(d, 24), lshift(s, 16), lshift(s, 8), bxor(s, d))
    end
end

local function schedule(key)
    local w, constant = { word(key, 1), word(key, 5), word(key, 9), word(key, 13) }, 1
    for i = 5, 44 do
        local t = w[i - 1]
        if i % 4 == 1 then
            local a, b, c, d = S[band(rshift(t, 16), 255)], S[band(rshift(t, 8), 255)], S[band(t, 255)], S[rshift(t, 24)]
            t = bor(lshift(bxor(a, constant), 24), lshift(b, 16), lshift(c, 8), d)
            constant = band(bxor(lshift(constant, 1), constant > 127 and 0x1b or 0), 255)
        end
        w[i] = bxor(w[i - 4], t)
    end
    return w
end

local function encrypt(w, a, b, c, d)
    a, b, c, d = bxor(a, w[1]), bxor(b, w[2]), bxor(c, w[3]), bxor(d, w[4])
    local function column(p, q, r, s, k)
        return bxor(
            T[rshift(p, 24)], ror(T[band(rshift(q, 16), 255)], 8), ror(T[band(rshift(r, 8), 255)], 16), ror(T[band(s, 255)], 24), k)
    end
    for i = 5, 37, 4 do
        a, b, c, d = column(a, b, c, d, w[i]), column(b, c, d, a, w[i + 1]), column(c, d, a, b, w[i + 2]), column(d, a, b, c, w[i + 3])
    end
    local function last(p, q, r, s, k)
        return bxor(
            lshift(S[rshift(p, 24)], 24), lshift(S[band(rshift(q, 16), 255)], 16), lshift(S[band(rshift(r, 8), 255)], 8),
            S[band(s, 255)], k)
    end
    return last(a, b, c, d, w[41]), last(b, c, d, a, w[42]), last(c, d, a, b, w[43]), last(d, a, b, c, w[44])
end

-- What the octet that is shifted out adds to the top, for the field of GCM.
local R = {}
for x = 0, 255 do
    local low, high = x, 0
    for _ = 1, 8 do
        local carry = band(low, 1)
        low = rshift(low, 1)
        high = bxor(rshift(high, 1), carry == 1 and bit.tobit(0xe1000000) or 0)
    end
    R[x] = high
end

-- Products of the hash key with every octet, at the top.
local function products(a, b, c, d)
    local M = { [0] = { 0, 0, 0, 0 } }
    local x = 128
    while x > 0 do
        M[x] = { a, b, c, d }
        local carry = band(d, 1)
        d = bor(rshift(d, 1), lshift(c, 31))
        c = bor(rshift(c, 1), lshift(b, 31))
        b = bor(rshift(b, 1), lshift(a, 31))
        a = bxor(rshift(a, 1), carry == 1 and bit.tobit(0xe1000000) or 0)
        x = rshift(x, 1)
    end
    for y = 1, 255 do
        local top = 128
        while band(y, top) == 0 do top = rshift(top, 1) end
        if y ~= top then
            local p, q = M[top], M[y - top]
            M[y] = { bxor(p[1], q[1]), bxor(p[2], q[2]), bxor(p[3], q[3]), bxor(p[4], q[4]) }
        end
    end
    return M
end

local function ghash(M, text)
    local a, b, c, d = 0, 0, 0, 0
    for at = 1, #text, 16 do
        local x = { byte(text, at, at + 15) }
        local function mix(w, i) return bxor(w, bor(lshift(x[i], 24), lshift(x[i + 1], 16), lshift(x[i + 2], 8), x[i + 3])) end
        local y = { mix(d, 13), mix(c, 9), mix(b, 5), mix(a, 1) }
        a, b, c, d = 0, 0, 0, 0
        for i = 1, 4 do
            for shift = 0, 24, 8 do
                local m, r = M[band(rshift(y[i], shift), 255)], band(d, 255)
                d = bxor(bor(rshift(d, 8), lshift(c, 24)), m[4])
                c = bxor(bor(rshift(c, 8), lshift(b, 24)), m[3])
                b = bxor(bor(rshift(b, 8), lshift(a, 24)), m[2])
                a = bxor(rshift(a, 8), R[r], m[1])
            end
        end
    end
    return a, b, c, d
end

-- Keys of a traffic secret (RFC 9001 section 5.1), with header protection of an earlier one after a key update.
local function protection(secret, mask)
    local key = { secret = secret, aes = schedule(expand(secret, "quic key", 16)), iv = expand(secret, "quic iv", 12) }
    key.mask = mask or schedule(expand(secret, "quic hp", 16))
    key.products = products(encrypt(key.aes, 0, 0, 0, 0))
    return key
end

local function pad(text) return text .. ("\0"):rep(-#text % 16) end

-- The plaintext, or nil when the tag is wrong.
local function open(key, number, header, sealed)
    local n1, n2 = bit.tobit(math.floor(number / 2 ^ 32)), bit.tobit(number % 2 ^ 32)
    local a, b, c = word(key.iv, 1), bxor(word(key.iv, 5), n1), bxor(word(key.iv, 9), n2)
    local text, tag = sub(sealed, 1, -17), sub(sealed, -16)
    local lengths = "\0\0\0\0" .. octets(#header * 8) .. "\0\0\0\0" .. octets(#text * 8)
    local g, h, i, j = ghash(key.products, pad(header) .. pad(text) .. lengths)
    local p, q, r, s = encrypt(key.aes, a, b, c, 1)
    if octets(bxor(g, p)) .. octets(bxor(h, q)) .. octets(bxor(i, r)) .. octets(bxor(j, s)) ~= tag then return nil end
    local out, padded = {}, pad(text)
    for at = 1, #text, 16 do
        local w, x, y, z = encrypt(key.aes, a, b, c, (at - 1) / 16 + 2)
        out[#out + 1] = octets(bxor(w, word(padded, at))) .. octets(bxor(x, word(padded, at + 4)))
            .. octets(bxor(y, word(padded, at + 8))) .. octets(bxor(z, word(padded, at + 12)))
    end
    return sub(table.concat(out), 1, #text)
end

-- Removes header protection and opens a packet with a short header (RFC 9001 section 5.4): packet number, key phase and frames.
local function unprotect(key, packet, idLength, largest)
    local at = idLength + 2
    if #packet < at + 19 then return nil end
    local m1, m2 = encrypt(key.mask, word(packet, at + 4), word(packet, at + 8), word(packet, at + 12), word(packet, at + 16))
    local first = bxor(byte(packet, 1), band(rshift(m1, 24), 0x1f))
    local length = band(first, 3) + 1
    local mask = { band(rshift(m1, 16), 255), band(rshift(m1, 8), 255), band(m1, 255), rshift(m2, 24) }
    local number, header = 0, char(first) .. sub(packet, 2, at - 1)
    for i = 1, length do
        local value = bxor(byte(packet, at + i - 1), mask[i])
        number, header = number * 256 + value, header .. char(value)
    end
    -- RFC 9000 appendix A.3.
    local expected, window = largest + 1, 256 ^ length
    number = expected - expected % window + number
    if number <= expected - window / 2 then
        number = number + window
    elseif number > expected + window / 2 and number >= window then
        number = number - window
    end
    local text = open(key, number, header, sub(packet, at + length))
    return text and { number = number, phase = band(rshift(first, 2), 1), text = text }
end

-- What is shown -------------------------------------------------------------------------------------------------------------------

local flexicast = Proto("flexicast", "Flexicast QUIC")
local fields = {}
local all = {}
local function declare(kind, list, ...)
    for name, title in pairs(list) do
        fields[name] = ProtoField[kind]("flexicast." .. name, title, ...)
        all[#all + 1] = fields[name]
    end
end
declare("bytes", { flow_id = "Flexicast Flow ID", dcid = "Destination connection ID", connection_id = "Connection ID",
    token = "Token", secret = "Secret", data = "Data", stateless_reset_token = "Stateless reset token" })
declare("uint64", { packet_number = "Packet number", key_phase = "Key phase", stream_id = "Stream ID", offset = "Offset",
    length = "Length", path_id = "Path ID", largest = "Largest acknowledged", ack_delay = "Ack delay as it travels",
    sequence = "Sequence number", retire_prior_to = "Retire prior to", maximum = "Maximum", limit = "Limit",
    final_size = "Final size", first_packet_number = "First packet number", ect0 = "ECT(0)", ect1 = "ECT(1)", ce = "CE",
    trigger = "Frame type at fault", port = "UDP port", ack_delay_ms = "Ack delay (ms)" }, base.DEC)
declare("uint64", { frame_type = "Frame type", error = "Error code" }, base.HEX)
declare("uint64", { algorithm = "Algorithm" }, base.HEX,
    { [0x1301] = "TLS_AES_128_GCM_SHA256", [0x1302] = "TLS_AES_256_GCM_SHA384", [0x1303] = "TLS_CHACHA20_POLY1305_SHA256" })
declare("uint64", { action = "Action" }, base.DEC, { "JOIN", "LEAVE", "READY" })
declare("string", { ranges = "Ranges", reason = "Reason", source = "Source", group = "Group" })
declare("bool", { fin = "FIN" })
declare("none", { opened = "Opened", sealed = "Not opened" })
flexicast.fields = all

local malformed = ProtoExpert.new("flexicast.malformed", "Malformed frame", expert.group.MALFORMED, expert.severity.ERROR)
local undecoded = ProtoExpert.new("flexicast.undecoded", "Not opened", expert.group.UNDECODED, expert.severity.NOTE)
flexicast.experts = { malformed, undecoded }
flexicast.prefs.ports = Pref.range("UDP ports of sources", "4433", "Where receivers connect", 65535)

-- Frames (RFC 9000 section 19, RFC 9221, draft-ietf-quic-multipath-21 section 4, draft-navarre-quic-flexicast-02 section 11) --------

local Reader = {}
Reader.__index = Reader
function Reader:need(count) if self.at + count > #self.text then error({ malformed = true }, 0) end end
function Reader:take(count)
    self:need(count)
    self.at = self.at + count
    return sub(self.text, self.at - count + 1, self.at)
end
function Reader:number(count)
    local value = 0
    for i = 1, count do value = value * 256 + byte(self:take(1)) end
    return value
end
function Reader:varint()
    self:need(1)
    local length = 2 ^ rshift(byte(self.text, self.at + 1), 6)
    return self:number(length) % 2 ^ (8 * length - 2)
end
-- Reads and shows. Numbers beyond 2^53 lose their last digits in what is reckoned with them, not in what is shown.
function Reader:show(name, kind, count)
    local begin = self.at
    local value
    if kind == "varint" then value = self:varint() elseif kind == "number" then value = self:number(count) else value = self:take(count) end
    local range = self.tvb(begin, self.at - begin)
    if kind == "varint" then
        local shown = UInt64.new(value % 2 ^ 32, math.floor(value / 2 ^ 32))
        self.tree:add(fields[name], range, shown)
    elseif kind ~= "octets" or self.at > begin then
        self.tree:add(fields[name], range)
    end
    return value
end
function Reader:varints(...) for _, name in ipairs({ ... }) do self:show(name, "varint") end end

local function ack(r, kind)
    local low = r:show("largest", "varint")
    r:show("ack_delay", "varint")
    local count, begin = r:varint(), r.at
    local high = low
    low = low - r:varint()
    local ranges = { format("%.0f-%.0f", low, high) }
    for _ = 1, count do
        high = low - r:varint() - 2
        low = high - r:varint()
        ranges[#ranges + 1] = format("%.0f-%.0f", low, high)
    end
    if low < 0 then error({ malformed = true }, 0) end
    r.tree:add(fields.ranges, r.tvb(begin, r.at - begin), table.concat(ranges, " "))
    if kind % 2 == 1 then r:varints("ect0", "ect1", "ce") end
end
local function newID(r, context)
    r:varints("sequence", "retire_prior_to")
    local id = r:show("connection_id", "octets", r:number(1))
    r:show("stateless_reset_token", "octets", 16)
    if context.connection then context.learn(id, context.connection) end
end
local function close(r, kind)
    r:varints("error")
    if kind == 0x1c then r:varints("trigger") end
    local length = r:varint()
    if length > 0 then r.tree:add(fields.reason, r.tvb(r.at, length), r:take(length)) end
end
local function flowID(r)
    local id = r:show("flow_id", "octets", r:number(1))
    r:varints("sequence")
    return id
end
local function address(r, name, size)
    local range = r.tvb(r.at, size)
    r:take(size)
    r.tree:add(fields[name], range, tostring(size == 4 and range:ipv4() or range:ipv6()))
end

local FRAMES = {
    [0x01] = { "PING" }, [0x02] = { "ACK", ack }, [0x03] = { "ACK", ack },
    [0x04] = { "RESET_STREAM", function(r) r:varints("stream_id", "error", "final_size") end },
    [0x05] = { "STOP_SENDING", function(r) r:varints("stream_id", "error") end },
    [0x06] = { "CRYPTO", function(r) r:varints("offset"); r:show("data", "octets", r:show("length", "varint")) end },
    [0x07] = { "NEW_TOKEN", function(r) r:show("token", "octets", r:varint()) end },
    [0x10] = { "MAX_DATA", function(r) r:varints("maximum") end },
    [0x11] = { "MAX_STREAM_DATA", function(r) r:varints("stream_id", "maximum") end },
    [0x12] = { "MAX_STREAMS", function(r) r:varints("maximum") end }, [0x13] = { "MAX_STREAMS", function(r) r:varints("maximum") end },
    [0x14] = { "DATA_BLOCKED", function(r) r:varints("limit") end },
    [0x15] = { "STREAM_DATA_BLOCKED", function(r) r:varints("stream_id", "limit") end },
    [0x16] = { "STREAMS_BLOCKED", function(r) r:varints("limit") end }, [0x17] = { "STREAMS_BLOCKED", function(r) r:varints("limit") end },
    [0x18] = { "NEW_CONNECTION_ID", function(r, _, context) newID(r, context) end },
    [0x19] = { "RETIRE_CONNECTION_ID", function(r) r:varints("sequence") end },
    [0x1a] = { "PATH_CHALLENGE", function(r) r:show("data", "octets", 8) end },
    [0x1b] = { "PATH_RESPONSE", function(r) r:show("data", "octets", 8) end },
    [0x1c] = { "CONNECTION_CLOSE", close }, [0x1d] = { "CONNECTION_CLOSE", close }, [0x1e] = { "HANDSHAKE_DONE" },
    [0x30] = { "DATAGRAM", function(r) r:show("data", "octets", #r.text - r.at) end },
    [0x31] = { "DATAGRAM", function(r) r:show("data", "octets", r:show("length", "varint")) end },
    [0x3e] = { "PATH_ACK", function(r, kind) r:varints("path_id"); ack(r, kind) end },
    [0x3f] = { "PATH_ACK", function(r, kind) r:varints("path_id"); ack(r, kind) end },
    [0x3e75] = { "PATH_ABANDON", function(r) r:varints("path_id", "error") end },
    [0x3e76] = { "PATH_STATUS_BACKUP", function(r) r:varints("path_id", "sequence") end },
    [0x3e77] = { "PATH_STATUS_AVAILABLE", function(r) r:varints("path_id", "sequence") end },
    [0x3e78] = { "PATH_NEW_CONNECTION_ID", function(r, _, context) r:varints("path_id"); newID(r, context) end },
    [0x3e79] = { "PATH_RETIRE_CONNECTION_ID", function(r) r:varints("path_id", "sequence") end },
    [0x3e7a] = { "MAX_PATH_ID", function(r) r:varints("maximum") end }, [0x3e7b] = { "PATHS_BLOCKED", function(r) r:varints("limit") end },
    [0x3e7c] = { "PATH_CIDS_BLOCKED", function(r) r:varints("path_id", "sequence") end },
    [0xf2] = { "FC_ANNOUNCE", function(r)
        flowID(r)
        local size = r:number(1) == 4 and 4 or 16
        address(r, "source", size)
        address(r, "group", size)
        r:show("port", "number", 2)
        r:show("ack_delay_ms", "number", 8)
    end },
    [0xf4] = { "FC_STATE", function(r) flowID(r); r:show("action", "number", 8) end },
    [0xf5] = { "FC_KEY", function(r, _, context)
        local id = flowID(r)
        r:varints("first_packet_number")
        local secret = r:show("secret", "octets", r:varint())
        if r:show("algorithm", "number", 8) == 0x1301 then context.flowSecret(id, secret) end
    end },
}
for kind = 0x08, 0x0f do
    FRAMES[kind] = { "STREAM", function(r)
        r:varints("stream_id")
        if band(kind, 4) ~= 0 then r:varints("offset") end
        local length = band(kind, 2) ~= 0 and r:show("length", "varint") or #r.text - r.at
        if band(kind, 1) ~= 0 then r.tree:add(fields.fin, true):set_generated() end
        r:show("data", "octets", length)
    end }
end

local function showFrames(text, tree, context)
    local names, tvb = {}, ByteArray.new(hex(text)):tvb("Opened QUIC packet")
    local r = setmetatable({ text = text, at = 0, tvb = tvb }, Reader)
    while r.at < #text do
        local begin = r.at
        if byte(text, begin + 1) == 0 then
            while byte(text, r.at + 1) == 0 do r.at = r.at + 1 end
            tree:add(flexicast, tvb(begin, r.at - begin), "PADDING")
            names[#names + 1] = "PADDING"
        else
            local isWhole, reason = pcall(function()
                local kind = r:varint()
                local known = FRAMES[kind]
                r.tree = tree:add(flexicast, tvb(begin), known and known[1] or format("Frame 0x%x", kind))
                r.tree:add(fields.frame_type, tvb(begin, r.at - begin), UInt64.new(kind % 2 ^ 32, math.floor(kind / 2 ^ 32)))
                names[#names + 1] = known and known[1] or format("0x%x", kind)
                if not known then error({ malformed = true }, 0) end
                if known[2] then known[2](r, kind, context) end
                r.tree:set_len(r.at - begin)
            end)
            if not isWhole then
                tree:add_proto_expert_info(malformed, type(reason) == "table" and "A frame cannot be read" or tostring(reason))
                break
            end
        end
    end
    return table.concat(names, ", ")
end

-- Connections and flows -----------------------------------------------------------------------------------------------------------

local secrets, flows, connections, byID, results
local quic = Dissector.get("quic")
local random, suite = Field.new("tls.handshake.random"), Field.new("tls.handshake.ciphersuite")

local function flowSecret(id, secret)
    flows[id] = flows[id] or { keys = {}, largest = -1 }
    for _, key in ipairs(flows[id].keys) do if key.secret == secret then return end end
    table.insert(flows[id].keys, 1, protection(secret))
end

function flexicast.init()
    secrets, flows, connections, byID, results = {}, {}, {}, {}, {}
    local isThere, path = pcall(get_preference, "tls.keylog_file")
    local file = isThere and path and path ~= "" and io.open(path, "r") or nil
    if not file then return end
    for line in file:lines() do
        local label, id, secret = line:match("^([%w_]+) (%x+) (%x+)")
        if label == "FLEXICAST_FLOW_SECRET_1301" then
            flowSecret(unhex(id), unhex(secret))
        elseif label == "CLIENT_TRAFFIC_SECRET_0" or label == "SERVER_TRAFFIC_SECRET_0" then
            id = id:lower()
            secrets[id] = secrets[id] or {}
            secrets[id][label == "CLIENT_TRAFFIC_SECRET_0"] = unhex(secret)
        end
    end
    file:close()
end

local function learn(id, connection) byID[id] = connection end

local function openFlow(packet)
    for length = 1, math.min(20, #packet - 21) do
        local flow = flows[sub(packet, 2, length + 1)]
        if flow then
            for index, key in ipairs(flow.keys) do
                local opened = unprotect(key, packet, length, flow.largest)
                if opened then
                    table.insert(flow.keys, 1, table.remove(flow.keys, index))
                    flow.largest = math.max(flow.largest, opened.number)
                    opened.id, opened.isFlow = sub(packet, 2, length + 1), true
                    return opened
                end
            end
            return nil
        end
    end
end

local function openConnection(packet, connection, isClient)
    local way = connection[isClient]
    local length = connection.lengths[not isClient]
    if not way or not length then return nil end
    local opened = unprotect(way.key, packet, length, way.largest)
    if not opened then
        -- The peer may have gone on to its next key (RFC 9001 section 6).
        local after = protection(expand(way.key.secret, "quic ku", 32), way.key.mask)
        opened = unprotect(after, packet, length, way.largest)
        if not opened then return nil end
        way.key = after
    end
    way.largest = math.max(way.largest, opened.number)
    opened.id, opened.connection = sub(packet, 2, length + 1), connection
    return opened
end

-- Where a packet ends: a sender's segments that the kernel has not yet cut lie in one datagram of the capture, all of one size.
local function openPackets(text, at, id, opener)
    local found, size = {}, nil
    while at <= #text do
        local stop = size and math.min(#text, at + size - 1) or #text
        local opened = opener(sub(text, at, stop))
        local next = at
        while not opened and not size do
            next = text:find(id, next + 2, true)
            if not next then break end
            stop = next - 2
            opened = opener(sub(text, at, stop))
        end
        if not opened then
            found[#found + 1] = { at = at - 1, size = #text - at + 1 }
            break
        end
        opened.at, opened.size = at - 1, stop - at + 1
        found[#found + 1] = opened
        size = size or opened.size
        at = stop + 1
    end
    return found
end

-- Octets of the packets with long headers at the datagram's beginning, and the source connection ID of the last (RFC 9000 section 17.2).
local function longHeaders(text)
    local at, id, isInitial = 0, nil, false
    local isWhole = pcall(function()
        while at < #text and byte(text, at + 1) >= 0x80 do
            local r = setmetatable({ text = text, at = at + 1 }, Reader)
            if r:number(4) ~= 1 then at = #text return end
            local kind = band(rshift(byte(text, at + 1), 4), 3)
            r:take(r:number(1))
            id = r:take(r:number(1))
            isInitial = isInitial or kind == 0
            if kind == 0 then r:take(r:varint()) end
            if kind == 3 then at = #text return end
            r:take(r:varint())
            at = r.at
        end
    end)
    if not isWhole then at = #text end
    return at, id, isInitial
end

local function digits(info) return info and hex(info.range:bytes():raw()) end

local function handshake(tvb, pinfo, tree, connection, isClient, length, id)
    pcall(function() quic:call(tvb(0, length):tvb(), pinfo, tree) end)
    pinfo.cols.protocol = "QUIC"
    if id then
        connection.lengths[isClient] = #id
        learn(id, connection)
    end
    connection.random = connection.random or isClient and digits(random()) or nil
    connection.suite = connection.suite or not isClient and digits(suite()) or nil
    local known = secrets[connection.random or ""]
    if known and connection.suite == "1301" then
        for _, way in ipairs({ true, false }) do
            connection[way] = connection[way] or known[way] and { key = protection(known[way]), largest = -1 }
        end
    end
end

local function show(opened, tvb, pinfo, tree)
    local range = tvb(opened.at, opened.size)
    local part = tree:add(flexicast, range, opened.isFlow and "Flexicast flow" or "QUIC 1-RTT packet")
    if not opened.text then
        part:add(fields.sealed, range)
        part:add_proto_expert_info(undecoded, "The key log has no secret that opens this packet")
        pinfo.cols.info:append(" Not opened")
        return
    end
    part:add(fields.opened, range)
    part:add(fields[opened.isFlow and "flow_id" or "dcid"], tvb(opened.at + 1, #opened.id))
    part:add(fields.packet_number, range, UInt64.new(opened.number % 2 ^ 32, math.floor(opened.number / 2 ^ 32))):set_generated()
    part:add(fields.key_phase, range, UInt64.new(opened.phase)):set_generated()
    local names = showFrames(opened.text, part, { connection = opened.connection, learn = learn, flowSecret = flowSecret })
    pinfo.cols.info:append(format(" %s %s, number %.0f: %s", opened.isFlow and "flow" or "1-RTT", hex(opened.id), opened.number, names))
end

local function flowOf(text)
    if #text < 22 or band(byte(text, 1), 0xc0) ~= 0x40 then return nil end
    for length = 1, math.min(20, #text - 21) do
        local id = sub(text, 2, length + 1)
        if flows[id] then return id end
    end
end

function flexicast.dissector(tvb, pinfo, tree)
    local text = tvb:raw()
    local from, to = tostring(pinfo.src) .. " " .. pinfo.src_port, tostring(pinfo.dst) .. " " .. pinfo.dst_port
    local name = from < to and from .. " " .. to or to .. " " .. from
    pinfo.cols.protocol = "Flexicast"
    pinfo.cols.info = ""
    local long, id, isInitial = longHeaders(text)
    local connection = connections[name]
    if long > 0 then
        if not connection and isInitial then
            connection = { client = from, lengths = {} }
            connections[name] = connection
        end
        if connection then
            handshake(tvb, pinfo, tree, connection, from == connection.client, long, id)
        else
            pcall(function() quic:call(tvb(0, long):tvb(), pinfo, tree) end)
        end
    end
    if long == #text then return #text end
    local found = results[pinfo.number]
    if not found then
        local flow = flowOf(sub(text, long + 1))
        -- After a change of the client's address the ID tells.
        connection = connection or byID[sub(text, 2, 9)]
        if flow then
            found = openPackets(text, long + 1, flow, openFlow)
        elseif connection then
            local isClient = from == connection.client or connections[name] == nil and connection.lengths[false] == 8
            local length = connection.lengths[not isClient] or 0
            found = openPackets(text, long + 1, sub(text, long + 2, long + 1 + length), function(packet)
                return openConnection(packet, connection, isClient)
            end)
        else
            found = { { at = long, size = #text - long } }
        end
        results[pinfo.number] = found
    end
    for _, opened in ipairs(found) do show(opened, tvb, pinfo, tree) end
    return #text
end

-- A flow's packets are known by their ID, whatever their port is.
flexicast:register_heuristic("udp", function(tvb, pinfo, tree)
    if not flowOf(tvb:raw()) then return false end
    flexicast.dissector(tvb, pinfo, tree)
    return true
end)

local ports = ""
local udp = DissectorTable.get("udp.port")
local function setPorts()
    if ports ~= "" then udp:remove(ports, flexicast) end
    ports = tostring(flexicast.prefs.ports)
    if ports ~= "" then udp:add(ports, flexicast) end
end
flexicast.prefs_changed = setPorts
setPorts()
