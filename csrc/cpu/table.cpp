// The table of CPU kernels for one instruction set; the build compiles this file once for each.
#include "table.h"

#include "clip_preprocess.h"
#include "conv_bias_lrelu.h"
#include "derain_loss.h"
#include "gated_dconv.h"
#include "high_pass.h"
#include "instance_norm_lrelu.h"
#include "layernorm2d.h"
#include "nafblock.h"
#include "nafblock_backward.h"
#include "nss_features.h"
#include "pool_update.h"
#include "rain_residual.h"
#include "reward_candidate.h"
#include "ssim.h"
#include "take_crops.h"

namespace rgsud {
inline namespace RGSUD_ISA {

#define RGSUD_NAME_OF(x) #x
#define RGSUD_NAME(x) RGSUD_NAME_OF(x)

extern const CpuTables tables;
const CpuTables tables = {
    {high_pass<float>, ssim<float>, derain_loss_forward<float>, derain_loss_backward<float>, layernorm2d_forward<float>,
     layernorm2d_backward<float>, conv_bias_lrelu_forward<float>, conv_bias_lrelu_backward<float>,
     instance_norm_lrelu_forward<float>, instance_norm_lrelu_backward<float>, nafblock_forward<float>,
     nafblock_backward<float>, gated_dconv_forward<float>, gated_dconv_backward<float>, nss_features<float>,
     clip_preprocess<float>, rain_residual<float>},
    {high_pass<double>, ssim<double>, derain_loss_forward<double>, derain_loss_backward<double>,
     layernorm2d_forward<double>, layernorm2d_backward<double>, conv_bias_lrelu_forward<double>,
     conv_bias_lrelu_backward<double>, instance_norm_lrelu_forward<double>, instance_norm_lrelu_backward<double>,
     nafblock_forward<double>, nafblock_backward<double>, gated_dconv_forward<double>, gated_dconv_backward<double>,
     nss_features<double>, clip_preprocess<double>, rain_residual<double>},
    take_crops,
    pool_update,
    reward_candidate,
    RGSUD_NAME(RGSUD_ISA),
};

}  // namespace RGSUD_ISA
}  // namespace rgsud
