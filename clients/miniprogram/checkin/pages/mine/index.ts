import { phone } from "../../phone";
import { begin, explain, SHARED, TAPS } from "../../screen";

/** `state` is also: sure. */
Page({
  ...TAPS,
  data: { ...SHARED, signedIn: "" },

  async onLoad() {
    begin(this, "mine_title");
    try {
      const { person_id: person } = await phone().refresh();
      this.setData({ state: "shown", signedIn: phone().say("signed_in_as", { person }) });
    } catch (error) {
      explain(this, error);
    }
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
