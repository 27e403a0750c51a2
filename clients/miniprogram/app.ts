// A mini-program to try the sub-package in: yours gives `checkIn` of its `App` in its own way.

import type { Host } from "./checkin/core/session";

const checkIn: Host = {
  base: (wx.getStorageSync("base") as string) || "http://127.0.0.1:8080",
  token: async () => wx.getStorageSync("token") as string,
};

App({ checkIn });
