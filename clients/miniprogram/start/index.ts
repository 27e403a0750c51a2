Page({
  data: { base: wx.getStorageSync("base") as string, token: "" },
  setBase({ detail }: WechatMiniprogram.Input) {
    wx.setStorageSync("base", detail.value.trim());
  },
  setToken({ detail }: WechatMiniprogram.TextareaInput) {
    wx.setStorageSync("token", detail.value.trim());
  },
  enter() {
    void wx.navigateTo({ url: "/checkin/pages/tasks/index" });
  },
});
