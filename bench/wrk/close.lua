-- A new connection for each request.
dofile(os.getenv("WRK_RESULT"))
wrk.headers["Connection"] = "close"
