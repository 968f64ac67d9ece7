-- wrk's script: POST one constant body from every connection, and report the run as one line of JSON.
-- Arguments after `--`: the file of the body, its content type, and the length of its JSON header (0 for plain JSON).
-- There is no request() on purpose: wrk then formats the request once instead of calling Lua for each.

function init(args)
   local file = assert(io.open(args[1], "rb"))
   wrk.method = "POST"
   wrk.body = file:read("*a")
   file:close()
   wrk.headers["Content-Type"] = args[2]
   if args[3] ~= "0" then
      wrk.headers["Inference-Header-Content-Length"] = args[3]
   end
end

function done(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      'taxiway-json {"requests": %d, "seconds": %.6f, "connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d, ' ..
      '"p50_ms": %.4f, "p90_ms": %.4f, "p99_ms": %.4f}\n',
      summary.requests, summary.duration / 1e6, errors.connect, errors.read, errors.write, errors.status, errors.timeout,
      latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
