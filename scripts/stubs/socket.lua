---@meta

-- ba.socket: connections, listeners, datagrams. Times are milliseconds.

---What every failing call returns behind nil. Errors of the system bring their name and a phrase too.
---@alias ba.socket.error
---| "timeout"
---| "closed"            # closed by this program
---| "socketclosed"      # the peer has ended
---| "socketreadfailed"  # reset, or an error of the network
---| "badrequest"        # HTTP: not what a client may send
---| "invalidresponse"   # HTTP: not what a server may send
---| "socketwritefailed"
---| "sysshutdown"       # the server stops, or this generation of scripts ends
---| "cannotresolve"
---| "cannotconnect"
---| "bind"
---| "invalidsocketcon"  # not connected
---| "incorrectuse"
---| "invalidparam"
---| "noimplementation"
---| "toomuchdata"
---| "sslhandshake"
---| "sslalertrecv"
---| "sslcryptoerr"
---| "mem"
---| "failed"
---| string

---@class ba.socket.connect_options
---@field timeout? number ms for name, addresses, TCP and TLS together; default 1000
---@field intf? string local IP address or interface name
---@field ipv6? boolean resolve the name to IPv6 only; default false
---@field shark? userdata a TLS client object of ba.create.sharkssl
---@field alpn? string protocols to offer, with commas between
---@field host? string extension: the name for SNI and trusted(); default: the address
---@field trusted? boolean extension: refuse a peer that trusted() would not call true
---@field blocking? boolean extension: a new socket in blocking mode, also in a cosocket

---@class ba.socket.bind_options
---@field intf? string IP address or interface name; default all
---@field ipv6? boolean listen on IPv6 (only); default false
---@field shark? userdata a TLS server object: accepted sockets speak TLS
---@field backlog? integer extension; 0: as large as the system allows
---@field reuseport? boolean extension: SO_REUSEPORT
---@field mode? integer extension: permissions of a Unix socket's file

---@class ba.socket.relay_options
---@field idle? number ms without a byte either way until it ends; 0 (default): never
---@field linger? number ms that one side may stay silent after the other has ended; default 30000, 0: for ever
---@field detach? boolean return true at once; default false
---@field on_close? fun(result: ba.socket.relay_result) with detach: a job that gets the result
---@field text? boolean what a WebSocket among them is sent is text; default false

---@class ba.socket.relay_result
---@field a_to_b integer bytes
---@field b_to_a integer bytes
---@field reason "eof"|"idle"|"linger"|"reset"|"sysshutdown"|"closed"|"mem"|"failed"
---@field first? "a"|"b" who ended or broke first

ba.socket = {}

---Connects by TCP or to a Unix socket ("unix:/path", without port). Waits. In a cosocket that is not connected yet it
---connects that cosocket and returns its own socket; elsewhere it returns a new one in blocking mode.
---Errors: cannotresolve, cannotconnect, timeout, bind (`intf`), incorrectuse, closed, sysshutdown, mem.
---@param address string name, IP address, or "unix:/path"
---@param port integer|string|ba.socket.connect_options
---@param options? ba.socket.connect_options
---@return ba.socket? sock
---@return ba.socket.error? err
---@return string? errno "ECONNREFUSED" and the like
---@return string? phrase
function ba.socket.connect(address, port, options) end

---A listening socket; its coroutine is started with sock:event(f, "r"). Port 0: any that is free.
---Errors: bind (with the system's reason), incorrectuse, sysshutdown.
---@param port integer|string port or "unix:/path"
---@param options? ba.socket.bind_options|string a string is `intf`
---@return ba.socket? listener
---@return ba.socket.error? err
---@return string? errno "EADDRINUSE" and the like
---@return string? phrase
function ba.socket.bind(port, options) end

---Starts a cosocket: f(sock, ...) runs at once, up to its first wait. When f ends, its socket closes.
---@param f fun(sock: ba.socket, ...)
---@param ... any
---@return ba.socket sock not connected
function ba.socket.event(f, ...) end

---The socket of the running cosocket; nil elsewhere.
---@return ba.socket? sock
function ba.socket.getsock() end

---Extension: hands two connected sockets to the engine, which moves all bytes both ways. Waits, unless `detach`.
---Errors: closed, socketclosed and the like when one has ended, sysshutdown, mem.
---@param a ba.socket
---@param b ba.socket
---@param options? ba.socket.relay_options
---@return ba.socket.relay_result|true|nil result
---@return ba.socket.error? err
function ba.socket.relay(a, b, options) end

---The first address of a name, IPv4 first. Waits. Errors: cannotresolve, sysshutdown, mem.
---@param name string
---@param ipv6? boolean IPv6 only
---@return string? ip
---@return ba.socket.error? err
function ba.socket.toip(name, ipv6) end

---The low bytes of an integer, big-endian.
---@param size integer 1 to 8
---@param n number
---@return string
function ba.socket.h2n(size, n) end

---An unsigned big-endian integer. Raises when the string is too short.
---@param size integer 1 to 8
---@param s string
---@param start? integer default 1
---@return integer
function ba.socket.n2h(size, s, start) end

---An IEEE float, big-endian.
---@param size 4|8
---@param n number
---@return string
function ba.socket.fh2n(size, n) end

---A big-endian IEEE float. Raises when the string is too short.
---@param size 4|8
---@param s string
---@param start? integer default 1
---@return number
function ba.socket.fn2h(size, s, start) end

---The connection of an HTTP client (require "httpc", or a table with one in its field raw), once an answer has come: a WebSocket
---after a 101 to a ws:// or wss:// URL, else as it is. The client is of no use afterwards.
---@param client table
---@return ba.socket? sock in blocking mode
---@return ba.socket.error? err
function ba.socket.http2sock(client) end

---Sockets connected or connecting, twice.
---@return integer total
---@return integer active
function ba.socket.stat() end
