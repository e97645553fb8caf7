-- For the scripts beside it: the result as one line of JSON. Each thread of wrk counts in `wrong` what it did not like.
wrong = 0
local threads = {}

function setup(thread) threads[#threads + 1] = thread end

function done(summary, latency)
   local e = summary.errors
   local errors = e.connect + e.read + e.write + e.status + e.timeout
   for _, thread in ipairs(threads) do errors = errors + thread:get("wrong") end
   io.write(string.format('{"requests": %d, "seconds": %.6f, "bytes": %d, "errors": %d, "p50": %.1f, "p99": %.1f, "p99.9": %.1f}\n',
      summary.requests, summary.duration / 1e6, summary.bytes, errors,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
