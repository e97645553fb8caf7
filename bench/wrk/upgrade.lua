-- Requests for a WebSocket, a new connection for each: wrk speaks HTTP only, so its part ends with the answer.
dofile(os.getenv("WRK_RESULT"))
wrk.headers["Connection"] = "Upgrade"
wrk.headers["Upgrade"] = "websocket"
wrk.headers["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
wrk.headers["Sec-WebSocket-Version"] = "13"

function response(status, headers)
   if status ~= 101 or headers["Sec-WebSocket-Accept"] ~= "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" then wrong = wrong + 1 end
end
