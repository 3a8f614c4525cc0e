// Spooky's admin endpoint over HTTP/1.1: the probes of what stands before Spooky, and a herd of them
// all at once. It is served by the keeper: traffic must not notice. Each request has a connection.
//
//   k6 run -e ADMIN=http://127.0.0.1:9901 loadtest/k6/admin.js

import http from "k6/http";
import { check, fail } from "k6";

const ADMIN = __ENV.ADMIN;

export const options = {
  scenarios: {
    probes: {
      executor: "constant-arrival-rate",
      exec: "probe",
      rate: 50,
      timeUnit: "1s",
      duration: "15s",
      preAllocatedVUs: 10,
    },
    herd: {
      executor: "ramping-arrival-rate",
      exec: "probe",
      startRate: 10,
      timeUnit: "1s",
      stages: [
        { duration: "5s", target: 100 },
        { duration: "5s", target: 100 },
        { duration: "5s", target: 10 },
      ],
      preAllocatedVUs: 50,
    },
  },
  thresholds: {
    http_req_failed: ["rate==0"],
    checks: ["rate==1"],
    "http_req_duration{scenario:probes}": ["p(99)<250"],
  },
};

export function setup() {
  if (!/^http:\/\/(127\.0\.0\.1|localhost):\d+$/.test(ADMIN || "")) {
    fail("give -e ADMIN=http://127.0.0.1:PORT, it sends to loopback only");
  }
}

export function probe() {
  check(http.get(`${ADMIN}/health`), {
    "healthy": (r) => r.status === 200 && r.json("status") === "ok",
  });
  check(http.get(`${ADMIN}/ready`), {
    "ready": (r) => r.status === 200 && r.json("status") === "ready",
  });
}
