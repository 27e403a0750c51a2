import { fetchExport, forget, passOn } from "../../core/export";
import { phone } from "../../phone";
import { begin, explain, SHARED, TAPS } from "../../screen";

/** `state` is also: sure. */
Page({
  ...TAPS,
  data: { ...SHARED, signedIn: "", isFetched: false, said: "" },

  async onLoad() {
    begin(this, "mine_title");
    try {
      const { person_id: person } = await phone().refresh();
      this.setData({ state: "shown", signedIn: phone().say("signed_in_as", { person }) });
    } catch (error) {
      explain(this, error);
    }
  },
  /** WeChat wants a tap of its own for passing it on. */
  async fetch() {
    try {
      await fetchExport(phone());
      this.setData({ isFetched: true, said: phone().say("export_fetched") });
    } catch (error) {
      explain(this, error);
    }
  },
  async passOn() {
    try {
      await passOn(phone());
      this.setData({ said: phone().say("export_passed_on") });
    } catch {
      this.setData({ said: phone().say("export_kept") });
    }
  },
  onUnload() {
    forget(phone());
  },
  ask() {
    this.setData({ state: "sure" });
  },
  keep() {
    this.setData({ state: "shown" });
  },
  async withdraw() {
    try {
      await phone().api.call("DELETE", "/v1/me/consent");
    } catch (error) {
      return explain(this, error);
    }
    const owner = await phone().owner();
    if (owner) phone().outbox.remove(owner);
    void wx.showToast({ title: phone().say("withdrawn"), icon: "none" });
    this.toTasks();
  },
  again() {
    void this.onLoad();
  },
});
