// Everything that the pages use: WeChat, the time, the service, and who is signed in.

import type { Me, Task } from "./answers";
import { Api, Offline, Problem } from "./api";
import { ServerClock } from "./clock";
import { forget } from "./export";
import { chooseLanguage, type Figures, type Language, LANGUAGES, say, sayInstant } from "./language";
import { Outbox } from "./outbox";
import { Positions } from "./position";
import { type Host, ownerOf } from "./session";
import { Fault, type Time, type Wx } from "./wechat";

const PLATFORMS: Record<string, string> = { android: "android", ios: "ios", ohos: "harmony", devtools: "devtools" };

// the phone page's
const LARGE = "22px";

/** What went wrong, as it is shown. */
export interface Trouble {
  title: string;
  text: string;
  /** Whether WeChat's settings are where to mend it. */
  needsSettings: boolean;
}

export class Phone {
  me: Me | null = null;
  taskId = "";
  hasOfferedConsent = false;
  /** Ends a pause before the next try. */
  hurry: () => void = () => undefined;
  readonly clock: ServerClock;
  readonly api: Api;
  readonly outbox: Outbox;
  readonly positions: Positions;
  readonly wx: Wx;
  readonly time: Time;
  readonly host: Host;
  private spoken: Language;

  constructor(wx: Wx, time: Time, host: Host) {
    this.wx = wx;
    this.time = time;
    this.host = host;
    this.spoken = this.storedLanguage() ?? chooseLanguage(wx.getAppBaseInfo().language);
    this.clock = new ServerClock(time);
    this.api = new Api(wx, time, host, this.clock, () => this.spoken);
    this.outbox = new Outbox(wx, time);
    this.positions = new Positions(wx, time);
    forget(this);
  }

  get language(): Language {
    return this.spoken;
  }

  setLanguage(language: Language): void {
    this.spoken = language;
    this.store("checkin.language", language);
  }

  get isLarge(): boolean {
    return this.wx.getStorageSync("checkin.large") === "1";
  }

  setLarge(isLarge: boolean): void {
    this.store("checkin.large", isLarge ? "1" : "");
  }

  /** As WeChat has it in its own settings, or large. */
  get textSize(): string {
    return this.isLarge ? LARGE : "system";
  }

  say(key: string, figures?: Figures): string {
    return say(this.spoken, key, figures);
  }

  sayInstant(instant: string): string {
    return sayInstant(this.spoken, instant);
  }

  async refresh(): Promise<Me> {
    this.me = await this.api.call<Me>("GET", "/v1/me");
    return this.me;
  }

  task(taskId: string): Task | null {
    return this.me?.tasks.find((task) => task.task_id === taskId) ?? null;
  }

  /** Whose check-ins are sent; null while nobody is signed in. */
  async owner(): Promise<string | null> {
    try {
      return ownerOf(this.wx, await this.host.token(false));
    } catch {
      return null;
    }
  }

  /** In words what to do about an error that people can meet; any other is thrown again. */
  trouble(error: unknown): Trouble {
    if (error instanceof Offline) return { title: this.say("offline_title"), text: this.say("offline_text"), needsSettings: false };
    if (error instanceof Fault) return { title: this.say("failed_title"), text: this.say(error.key), needsSettings: error.key.endsWith("_not_allowed") };
    if (!(error instanceof Problem)) throw error;
    const { status, title, detail } = error.answer;
    if (status === 401) return { title: this.say("sign_in_title"), text: this.say("sign_in_text"), needsSettings: false };
    return { title: title || this.say("failed_title"), text: detail || this.say("failed_text"), needsSettings: false };
  }

  /** As the API takes it. */
  device(): { platform: string; model: string; device_id: string; reduced_accuracy?: boolean } {
    const { platform, model } = this.wx.getDeviceInfo();
    const reduced = this.wx.getAppAuthorizeSetting().locationReducedAccuracy;
    const told = { platform: PLATFORMS[platform] ?? "other", model, device_id: this.deviceId() };
    return typeof reduced === "boolean" ? { ...told, reduced_accuracy: reduced } : told;
  }

  /** Made up once a phone; the notice speaks of it. */
  private deviceId(): string {
    const made = (this.wx.getStorageSync("checkin.device") as string) || madeUp(this.time);
    this.store("checkin.device", made);
    return made;
  }

  private storedLanguage(): Language | undefined {
    const stored: unknown = this.wx.getStorageSync("checkin.language");
    return LANGUAGES.find((language) => language === stored);
  }

  private store(key: string, value: string): void {
    try {
      this.wx.setStorageSync(key, value);
    } catch {
      // a full store: asked for again next time
    }
  }
}

/** A name that nobody else has; it need not be a secret. */
export function madeUp(time: Time): string {
  const digits = () => Math.random().toString(36).slice(2, 12);
  return `${time.now().toString(36)}-${digits()}-${digits()}`;
}
