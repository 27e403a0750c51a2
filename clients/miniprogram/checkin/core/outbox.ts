// Check-ins on their way: fields, pictures and their key stay in the phone until an answer is known.

import type { Time, Wx } from "./wechat";

const PLACE = "checkin.outbox";
// the receipt of a check-in is long judged by then, and without one its challenge is long over
const MOST_AGE_MS = 24 * 3600 * 1000;

/** A check-in as it is sent again and again: the same fields, the same picture, the same key. */
export interface Item {
  owner: string;
  task_id: string;
  challenge_id: string;
  key: string;
  saved_at: number;
  fields: Record<string, string>;
  selfie: string;
  /** Frames of a burst, which go ahead one by one. */
  frames: string[];
  areFramesSent: boolean;
  /** Once it was taken: where to ask for the verdict. */
  status_url?: string;
}

export class Outbox {
  /** Whether what is kept outlives the mini-program. */
  keepsItems = true;
  private memory: Record<string, Item> = {};
  private readonly wx: Wx;
  private readonly time: Time;

  constructor(wx: Wx, time: Time) {
    this.wx = wx;
    this.time = time;
    this.forgetOld();
  }

  /** Stores a new check-in; its pictures leave WeChat's temporary folder, which does not outlive the mini-program. */
  add(item: Item): Item {
    const kept = { ...item, selfie: this.keep(item.selfie), frames: item.frames.map((file) => this.keep(file)) };
    this.put(kept);
    return kept;
  }

  put(item: Item): void {
    this.memory[item.owner] = item;
    this.store({ ...this.stored(), [item.owner]: item });
  }

  find(owner: string): Item | null {
    return this.stored()[owner] ?? this.memory[owner] ?? null;
  }

  /** Whether the pictures that are still to be sent are there: a phone that is full of things may tidy up. */
  isWhole(item: Item): boolean {
    const files = this.wx.getFileSystemManager();
    try {
      for (const file of [item.selfie, ...(item.areFramesSent ? [] : item.frames)]) files.accessSync(file);
      return true;
    } catch {
      return false;
    }
  }

  /** The pictures go as soon as they are of no more use. */
  dropPictures(item: Item): void {
    for (const file of [item.selfie, ...item.frames]) this.unlink(file);
  }

  remove(owner: string): void {
    const item = this.find(owner);
    if (item) this.dropPictures(item);
    delete this.memory[owner];
    const { [owner]: _, ...others } = this.stored();
    this.store(others);
  }

  private forgetOld(): void {
    for (const item of Object.values(this.stored())) {
      if (this.time.now() - item.saved_at > MOST_AGE_MS) this.remove(item.owner);
    }
  }

  private stored(): Record<string, Item> {
    try {
      return (this.wx.getStorageSync(PLACE) as Record<string, Item>) || {};
    } catch {
      return {};
    }
  }

  private store(items: Record<string, Item>): void {
    try {
      this.wx.setStorageSync(PLACE, items);
    } catch {
      // full or broken: the copy in memory is still sent
      this.keepsItems = false;
    }
  }

  private keep(file: string): string {
    try {
      const name = `checkin-${this.time.now()}-${Math.random().toString(36).slice(2)}.jpg`;
      return this.wx.getFileSystemManager().saveFileSync(file, `${this.wx.env.USER_DATA_PATH}/${name}`) as string;
    } catch {
      this.keepsItems = false;
      return file;
    }
  }

  private unlink(file: string): void {
    try {
      this.wx.getFileSystemManager().unlinkSync(file);
    } catch {
      // gone already
    }
  }
}
