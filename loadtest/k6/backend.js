// The backend without Spooky, over HTTP/1.1: what it can bear is the most that any proxy can give.
// k6 speaks HTTP/2 only over TLS, and no HTTP/3: a backend of cleartext HTTP/2 alone is not for it.
//
//   k6 run -e BACKEND=http://127.0.0.1:PORT loadtest/k6/backend.js

import http from "k6/http";
import { check, fail } from "k6";

const BACKEND = __ENV.BACKEND;

export const options = {
  scenarios: {
    steady: { executor: "constant-vus", vus: 10, duration: "10s" },
    spike: {
      executor: "ramping-vus",
      startTime: "10s",
      startVUs: 10,
      stages: [
        { duration: "2s", target: 100 },
        { duration: "4s", target: 100 },
        { duration: "2s", target: 10 },
      ],
    },
  },
  thresholds: { http_req_failed: ["rate==0"], checks: ["rate==1"] },
};

export function setup() {
  if (!/^http:\/\/(127\.0\.0\.1|localhost):\d+$/.test(BACKEND || "")) {
    fail("give -e BACKEND=http://127.0.0.1:PORT, it sends to loopback only");
  }
}

export default function () {
  const answer = http.get(`${BACKEND}/1024`);
  check(answer, {
    "status 200": (r) => r.status === 200,
    "1024 octets": (r) => r.body.length === 1024,
  });
}
