-- For the scripts beside it: the result as one line of JSON.
function done(summary, latency)
   local e = summary.errors
   io.write(string.format('{"requests": %d, "seconds": %.6f, "bytes": %d, "errors": %d, "p50": %.1f, "p99": %.1f, "p99.9": %.1f}\n',
      summary.requests, summary.duration / 1e6, summary.bytes, e.connect + e.read + e.write + e.status + e.timeout,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
