import type { Notice } from "../../core/answers";
import { type Line, linesOf } from "../../core/notice";
import { phone } from "../../phone";
import { begin, explain, SHARED, TAPS } from "../../screen";

Page({
  ...TAPS,
  data: { ...SHARED, lines: [] as Line[], scopes: [] as { scope: string; text: string }[], mayAgree: false },
  version: "",

  async onLoad() {
    phone().hasOfferedConsent = true;
    begin(this, "consent_title");
    try {
      const notice = await phone().api.call<Notice>("GET", "/v1/consent-notice");
      this.version = notice.notice_version;
      const scopes = notice.scopes.map((scope) => ({ scope, text: phone().say(`scope_${scope}`) }));
      this.setData({ state: "shown", lines: linesOf(notice.text), scopes, mayAgree: false });
    } catch (error) {
      explain(this, error);
    }
  },
  ticked({ detail }: WechatMiniprogram.CheckboxGroupChange) {
    this.setData({ mayAgree: detail.value.length === this.data.scopes.length });
  },
  async agree() {
    if (!this.data.mayAgree) return;
    this.setData({ mayAgree: false });
    const scopes = this.data.scopes.map(({ scope }) => scope);
    try {
      await phone().api.call("PUT", "/v1/me/consent", { notice_version: this.version, scopes });
    } catch (error) {
      return explain(this, error);
    }
    void wx.showToast({ title: phone().say("consent_given"), icon: "none" });
    this.toTasks();
  },
  again() {
    void this.onLoad();
  },
});
