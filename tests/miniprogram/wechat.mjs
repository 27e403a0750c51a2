// WeChat as its pages describe it, with its limits: 60 seconds a call, ten at a time, one file an upload, positions
// without a date of which the first may be old, `getLocation` answering alike for 30 seconds, the front camera's
// pictures mirrored and on iOS as PNG, temporary files that do not outlive the mini-program.

import { EventEmitter } from "node:events";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

const TIMEOUT_MS = 60_000;
const MOST_AT_ONCE = 10;
const CACHED_MS = 30_000;
const FRAME_MS = 200;
const MOST_STORED = 1024 * 1024;

/** `told` is what a test says of phone, person and network; see `phone.py`. */
export class FakeWeChat extends EventEmitter {
  counts = { refused: 0, timeouts: 0, sent: [], atOnce: 0 };
  inFlight = 0;
  /** Those of them that the service has to answer; the others are still on their way by the clock. */
  onTheWire = 0;
  pose = "front";
  clipboard = null;
  #taken = new Map();
  #numbers = {};
  #listeners = new Set();
  #following = null;
  #network = new Set();
  #cached = null;

  constructor(folder, time, told) {
    super();
    Object.assign(this, { folder, time, told });
    fs.rmSync(path.join(folder, "tmp"), { recursive: true, force: true });
    for (const name of ["tmp", "user"]) fs.mkdirSync(path.join(folder, name), { recursive: true });
    this.env = { USER_DATA_PATH: path.join(folder, "user") };
    this.storage = path.join(folder, "storage.json");
    if (told.facialVerify) this.requestFacialVerify = (option) => this.#verify(option);
  }

  // --- Network ---

  request = ({ url, method = "GET", header = {}, data, timeout, success, fail }) => {
    const body = data === undefined ? Buffer.alloc(0) : Buffer.from(data);
    this.#send("request", { url, method, header, body, timeout }, fail, (got) => success({ ...got, data: got.text, errMsg: "request:ok" }));
  };

  uploadFile = ({ url, filePath, name, formData = {}, header = {}, timeout, success, fail }) => {
    const hearing = { headers: () => undefined, progress: () => undefined };
    if (!fs.existsSync(filePath)) {
      setImmediate(() => fail({ errMsg: `uploadFile:fail file not found ${filePath}` }));
    } else {
      const { body, type } = formOf(formData, name, filePath);
      this.#send("uploadFile", { url, method: "POST", header: { ...header, "content-type": type }, body, timeout }, fail, (got) => {
        hearing.progress({ progress: 100 });
        hearing.headers({ header: got.header });
        success({ data: got.text, statusCode: got.statusCode, errMsg: "uploadFile:ok" });
      });
    }
    return {
      onHeadersReceived: (work) => (hearing.headers = work),
      onProgressUpdate: (work) => (hearing.progress = work),
      abort: () => undefined,
    };
  };

  #send(api, call, fail, success) {
    const failed = (why) => {
      this.emit("changed");
      fail({ errMsg: `${api}:fail ${why}` });
    };
    if (this.inFlight + (this.told.hostsCalls ?? 0) >= MOST_AT_ONCE) {
      this.counts.refused += 1;
      return setImmediate(failed, "exceed max task count");
    }
    if (this.told.isOffline) return setImmediate(failed, "");
    this.inFlight += 1;
    this.counts.atOnce = Math.max(this.counts.atOnce, this.inFlight);
    let isOver = false;
    let request = null;
    const over = (end) => (...given) => {
      if (isOver) return;
      isOver = true;
      this.inFlight -= 1;
      if (request) this.onTheWire -= 1;
      end(...given);
      this.emit("changed");
    };
    const cancel = this.time.after(Math.min(call.timeout ?? TIMEOUT_MS, TIMEOUT_MS), over(() => {
      this.counts.timeouts += 1;
      request?.destroy();
      failed("timeout");
    }));
    const done = over((got) => {
      cancel();
      if (this.told.losesAnswers > 0 && call.method === "POST") {
        this.told.losesAnswers -= 1;
        return failed("interrupted");
      }
      success(got);
    });
    const broken = over(() => {
      cancel();
      failed("");
    });
    const leave = () => {
      if (isOver) return;
      this.onTheWire += 1;
      request = this.#transmit(call, done, broken);
    };
    const rate = this.told.bytesPerSecond;
    if (rate) this.time.after((call.body.length / rate) * 1000, leave);
    else leave();
  }

  #transmit({ url, method, header, body }, done, broken) {
    this.counts.sent.push(`${method} ${new URL(url).pathname}`);
    const headers = { ...header, "content-length": body.length };
    const request = http.request(url, { method, headers, agent: false }, (response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("error", broken);
      response.on("end", () => done({ statusCode: response.statusCode, header: response.headers, text: Buffer.concat(chunks).toString() }));
    });
    request.on("error", broken);
    request.end(body);
    return request;
  }

  onNetworkStatusChange = (work) => void this.#network.add(work);
  offNetworkStatusChange = (work) => void this.#network.delete(work);

  networkChanges(isConnected) {
    this.told.isOffline = !isConnected;
    for (const work of [...this.#network]) work({ isConnected, networkType: isConnected ? "4g" : "none" });
  }

  // --- Permissions ---

  requirePrivacyAuthorize = ({ success, fail }) => void setImmediate(() => (this.told.refusesPrivacy ? fail({ errMsg: "requirePrivacyAuthorize:fail privacy permission is not authorized" }) : success({})));
  authorize = ({ scope, success, fail }) => void setImmediate(() => (this.told.denies?.includes(scope) ? fail({ errMsg: "authorize:fail auth deny" }) : success({})));
  openSetting = () => undefined;

  // --- Position ---

  startLocationUpdate = ({ success, fail }) => {
    if (this.told.cannotFollow) return void setImmediate(() => fail({ errMsg: "startLocationUpdate:fail the api need to be declared in the requiredPrivateInfos field in app.json" }));
    setImmediate(() => {
      success({});
      let isFirst = true;
      const next = () => {
        const at = (isFirst && this.told.remembers) || this.told.at;
        isFirst = false;
        for (const work of [...this.#listeners]) work(located(at));
        this.emit("changed");
        this.#following = this.time.after(1000, next);
      };
      this.#following = this.time.after(200, next);
    });
  };
  stopLocationUpdate = () => {
    this.#following?.();
    this.#following = null;
  };
  get following() {
    return this.#listeners.size;
  }

  onLocationChange = (work) => void this.#listeners.add(work);
  offLocationChange = (work) => void this.#listeners.delete(work);

  getLocation = ({ success }) => {
    if (!this.#cached || this.time.now() - this.#cached.since >= CACHED_MS) this.#cached = { since: this.time.now(), at: this.told.at };
    setImmediate(() => {
      success(located(this.#cached.at));
      this.emit("changed");
    });
  };

  // --- Camera and pictures ---

  createCameraContext = () => ({
    takePhoto: ({ selfieMirror = true, success }) => {
      const number = (this.#numbers[this.pose] = (this.#numbers[this.pose] ?? 0) + 1);
      const side = selfieMirror || this.told.alwaysMirrors ? "mirrored" : "plain";
      const small = path.join(this.told.pictures, `${this.pose}-${number}-${side}.jpg`);
      const taken = path.join(this.folder, "tmp", `${this.pose}-${number}.jpg`);
      const raw = small.replace(/jpg$/, this.told.takes ?? "jpg");
      fs.copyFileSync(raw, taken);
      this.#taken.set(taken, small);
      setImmediate(() => success({ tempImagePath: taken }));
    },
    onCameraFrame: (work) => {
      let cancel = () => undefined;
      const next = () => {
        work(greyFrame(this.told.grey ?? 128));
        cancel = this.time.after(FRAME_MS, next);
      };
      return { start: () => void setImmediate(next), stop: () => cancel() };
    },
  });

  /** `told.faces`: origin and size of each, as shares of the frame; without it there is no such session here. */
  createVKSession = ({ track }) => {
    if (!this.told.faces || track.face?.mode !== 2) throw new Error("createVKSession:fail not support");
    const heard = {};
    this.counts.sessions = (this.counts.sessions ?? 0) + 1;
    return {
      on: (name, work) => (heard[name] = work),
      start: (done) => void setImmediate(() => done(this.told.refusesVision ? 2003000 : null)),
      detectFace: ({ frameBuffer, width, height }) => {
        if (frameBuffer.byteLength !== 4 * width * height) throw new Error("detectFace:fail");
        const found = this.told.faces.map(([x, y, w, h]) => ({ origin: { x, y }, size: { width: w, height: h } }));
        setImmediate(() => heard.updateAnchors(found));
      },
      destroy: () => (this.counts.sessions -= 1),
    };
  };

  getImageInfo = ({ success }) => void setImmediate(() => success({ width: 3000, height: 4000 }));

  createOffscreenCanvas = ({ width, height }) => {
    const canvas = { width, height, drawn: null };
    canvas.createImage = () => ({
      set src(file) {
        this.file = file;
        setImmediate(() => this.onload());
      },
    });
    canvas.getContext = () => ({ drawImage: (image) => (canvas.drawn = image.file) });
    return canvas;
  };

  canvasToTempFilePath = ({ canvas, success }) => {
    const drawn = `${canvas.drawn}.drawn.jpg`;
    fs.copyFileSync(this.#taken.get(canvas.drawn), drawn);
    setImmediate(() => success({ tempFilePath: drawn }));
  };

  #verify({ verifyId, success, fail }) {
    this.counts.verified = verifyId;
    if (this.told.facialVerify === "cancels") return void setImmediate(() => fail({ errMsg: "requestFacialVerify:fail cancel" }));
    this.facialVerifyEnds = () => success({ errMsg: "requestFacialVerify:ok" });
  }

  /** The page's one canvas; what is drawn on it is a list of rectangles with their colours. */
  createSelectorQuery = () => ({
    select: () => ({
      fields: () => ({
        exec: (work) => {
          this.canvas = canvasOf();
          setImmediate(() => {
            work([{ node: this.canvas }]);
            this.emit("changed");
          });
        },
      }),
    }),
  });

  // --- Files and storage ---

  getFileSystemManager = () => ({
    readFileSync: (file) => {
      const bytes = fs.readFileSync(file);
      return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
    },
    saveFileSync: (file, kept) => {
      if (this.told.isFull) throw new Error("saveFileSync:fail the maximum size of the file storage limit is exceeded");
      fs.renameSync(file, kept);
      return kept;
    },
    accessSync: (file) => fs.accessSync(file),
    unlinkSync: (file) => fs.unlinkSync(file),
    writeFileSync: (file, text) => fs.writeFileSync(file, text),
  });

  shareFileMessage = ({ filePath, success, fail }) => {
    if (this.told.keepsToItself) return void setImmediate(() => fail({ errMsg: "shareFileMessage:fail cancel" }));
    this.chat = fs.readFileSync(filePath, "utf8");
    setImmediate(() => success({}));
  };

  getStorageSync = (key) => this.#stored()[key] ?? "";
  setStorageSync = (key, value) => {
    if (this.told.isFull || JSON.stringify(value).length > MOST_STORED) throw new Error("setStorageSync:fail exceed storage max size");
    fs.writeFileSync(this.storage, JSON.stringify({ ...this.#stored(), [key]: value }));
  };

  #stored() {
    return fs.existsSync(this.storage) ? JSON.parse(fs.readFileSync(this.storage, "utf8")) : {};
  }

  // --- The rest ---

  getAppBaseInfo = () => ({ language: this.told.language ?? "zh_CN" });
  getDeviceInfo = () => ({ platform: this.told.platform ?? "android", model: "a phone" });
  getAppAuthorizeSetting = () => ({ locationReducedAccuracy: this.told.isReduced ?? false });
  base64ToArrayBuffer = (text) => Uint8Array.from(Buffer.from(text, "base64")).buffer;
  setClipboardData = ({ data, success }) => {
    this.clipboard = data;
    success();
  };
  setNavigationBarTitle = () => undefined;
  showToast = () => undefined;
  vibrateShort = () => undefined;
}

function located([longitude, latitude, accuracy]) {
  return { longitude, latitude, accuracy, horizontalAccuracy: accuracy, verticalAccuracy: 0, speed: -1, altitude: 0 };
}

function greyFrame(grey) {
  const data = new Uint8Array(64 * 64 * 4).fill(grey);
  return { width: 64, height: 64, data: data.buffer };
}

function canvasOf() {
  const drawn = [];
  const pen = { fillStyle: "", fillRect: (...place) => drawn.push([pen.fillStyle, ...place]) };
  return { width: 0, height: 0, drawn, getContext: () => pen };
}

/** A form with its text fields and the one file that there can be. */
function formOf(fields, name, file) {
  const boundary = "----fake-wechat";
  const part = (head, content) => [Buffer.from(`--${boundary}\r\nContent-Disposition: form-data; ${head}\r\n\r\n`), content, Buffer.from("\r\n")];
  const texts = Object.entries(fields).flatMap(([key, value]) => part(`name="${key}"`, Buffer.from(String(value))));
  const picture = part(`name="${name}"; filename="${path.basename(file)}"\r\nContent-Type: image/jpeg`, fs.readFileSync(file));
  const body = Buffer.concat([...texts, ...picture, Buffer.from(`--${boundary}--\r\n`)]);
  return { body, type: `multipart/form-data; boundary=${boundary}` };
}
