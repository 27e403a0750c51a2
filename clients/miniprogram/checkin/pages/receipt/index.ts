import type { CheckIn } from "../../core/answers";
import { drawLink } from "../../core/qr_picture";
import { phone } from "../../phone";
import { begin, explain, SHARED, TAPS } from "../../screen";

Page({
  ...TAPS,
  data: { ...SHARED, at: "", enterprise: "", address: "", number: "", link: "", isCopied: false },
  taskId: "",

  async onLoad({ task_id: taskId = "" }: Record<string, string | undefined>) {
    this.taskId = decodeURIComponent(taskId);
    begin(this, "receipt_title");
    try {
      await phone().refresh();
      const task = phone().task(this.taskId);
      if (!task?.check_in_id) return this.toTasks();
      const from = task.method === "manual" ? "manual-requests" : "check-ins";
      const { receipt } = await phone().api.call<CheckIn>("GET", `/v1/${from}/${task.check_in_id}`);
      // what stands after the # reaches no server
      const link = `${phone().host.base}/app/#receipt=${receipt}`;
      const shown = {
        state: "shown",
        at: phone().say("accepted_at", { at: phone().sayInstant(task.accepted_at ?? "") }),
        enterprise: task.enterprise.name,
        address: task.place.registered_address,
        number: task.check_in_id,
        link,
      };
      this.setData(shown, () => this.draw(link));
    } catch (error) {
      explain(this, error);
    }
  },
  draw(link: string) {
    const canvas = wx.createSelectorQuery().select("#qr").fields({ node: true });
    canvas.exec(([found]) => found?.node && drawLink(found.node, link));
  },
  copy() {
    wx.setClipboardData({ data: this.data.link, success: () => this.setData({ isCopied: true }) });
  },
  again() {
    void this.onLoad({ task_id: encodeURIComponent(this.taskId) });
  },
});
